"""Owns S3's answers: their XML and dates, its words for errors, and what those mean to a client."""

import http
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final
from xml.etree import ElementTree

from gateway.errors import BlobMissing, StoreDown, StoreError, StoreFull

WRONG_KEY: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken"})
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge"})
_GONE: Final = frozenset({"NoSuchKey", "NoSuchUpload", "NoSuchBucket"})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Answer:
    """A whole answer. ``code`` is S3's own word for an error, "" for success."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    code: str = ""

    @property
    def size(self) -> int:
        """Content-Length."""
        return int(self.headers.get("content-length", "0"))

    @property
    def modified(self) -> float:
        """Last-Modified in epoch seconds."""
        return read_time(self.headers["last-modified"])


class S3Fault(Exception):
    """An answer that is an error; ``StoreDown`` and its kin once nobody inside knows better."""

    def __init__(self, what: str, answer: S3Answer) -> None:
        self.answer = answer
        super().__init__(f"{what}: {answer.status} {answer.code}")

    def as_store_error(self) -> StoreError | BlobMissing:
        """What it means to a client."""
        if self.answer.code in _GONE or self.answer.status == http.HTTPStatus.NOT_FOUND:
            return BlobMissing(detail=str(self))
        if self.answer.code in _FULL or self.answer.status == http.HTTPStatus.INSUFFICIENT_STORAGE:
            return StoreFull(detail=str(self))
        return StoreDown(detail=str(self))


class S3Faults:
    """``with S3Faults():`` turns what is left of S3's errors into store errors."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, S3Fault):
            raise exc.as_store_error() from exc


def error_code(body: bytes) -> str:
    """S3's word for what went wrong."""
    try:
        return parse_xml(body).findtext("{*}Code") or parse_xml(body).findtext("Code") or "Unknown"
    except ElementTree.ParseError:
        return "Unknown"


def parse_xml(body: bytes) -> ElementTree.Element:
    """Raises: ParseError."""
    return ElementTree.fromstring(body)  # noqa: S314 - the store is ours, and expat bounds entities since 2.4


def read_time(text: str) -> float:
    """Epoch seconds of an HTTP or an ISO 8601 date."""
    if text[:1].isdigit():
        return datetime.fromisoformat(text).timestamp()
    return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC).timestamp()
