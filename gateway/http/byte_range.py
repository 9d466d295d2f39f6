"""Owns the Range header (RFC 9110 section 14) for one resource of known size: which bytes are meant."""

import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import RangeNotSatisfiable
from gateway.http.head import RequestHead

_ONE_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``start``."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The value of Content-Range."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def choose_range(head: RequestHead, *, size: int, etag: str) -> ByteRange | None:
    """The range to send, None = everything: no Range, one that is not understood, several, or a stale If-Range.

    Raises: RangeNotSatisfiable.
    """
    text = head.fields.get("range")
    if not text or head.method not in {"GET", "HEAD"}:
        return None
    if head.fields.has("if-range") and head.fields.get("if-range") != etag:
        return None
    match = _ONE_RANGE.fullmatch(text)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1]:
        start = int(match[1])
        end = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size - 1
        if match[2].strip("0") == "":
            start = size
    if start >= size:
        raise RangeNotSatisfiable(headers=(("content-range", f"bytes */{size}"),))
    return ByteRange(start, end - start + 1)
