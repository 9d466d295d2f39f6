"""Owns the header block of one part: its lines, and which of them a form may have."""

import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import BadForm
from gateway.http.head import Field
from gateway.upload.disposition import Disposition, parse_disposition

# RFC 9110 field syntax; bytes above 0x7F are the raw UTF-8 that browsers put into file names.
_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_FOLD: Final = re.compile(r"\r\n[ \t]+")
# A part is whatever bytes follow: decoding base64 would change a file (RFC 7578 section 4.7 deprecates it).
_IDENTITY_ENCODINGS: Final = frozenset({"7bit", "8bit", "binary"})
_ONCE: Final = frozenset({"content-disposition", "content-type", "content-transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHead:
    """The headers of one part. ``content_type`` is None if it has none, or an empty one."""

    disposition: Disposition
    content_type: str | None
    headers: tuple[Field, ...]


def read_part_head(block: bytes, *, max_headers: int) -> PartHead:
    """The headers in ``block``, which has no CRLF at its end.

    Raises: BadForm.
    """
    text = block.decode("utf-8", "surrogateescape")
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n") if text else []
    if len(lines) > max_headers:
        raise BadForm(f"A part of the form has more than {max_headers} headers.")
    headers = tuple(_read_line(line) for line in lines)
    known: dict[str, str] = {}
    for name, value in headers:
        if name in known and name in _ONCE:
            raise BadForm(f"A part of the form has the header '{name}' twice.")
        known[name] = value
    if "content-disposition" not in known:
        raise BadForm("A part of the form has no Content-Disposition.")
    if known.get("content-transfer-encoding", "8bit").lower() not in _IDENTITY_ENCODINGS:
        raise BadForm("A part of the form has a Content-Transfer-Encoding; send its bytes as they are.")
    if not text.isascii():
        headers = tuple((name, _readable(value)) for name, value in headers)
    return PartHead(
        disposition=parse_disposition(known["content-disposition"]),
        content_type=_readable(known.get("content-type", "")) or None,
        headers=headers,
    )


def _read_line(line: str) -> Field:
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadForm("A header line of a part is malformed: NAME: VALUE, CR LF, and no control characters.")
    return found[1].lower(), found[2].rstrip(" \t")


def _readable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
