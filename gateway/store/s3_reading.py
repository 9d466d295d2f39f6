"""Owns the reading of objects: one after the other in pieces, page by page, over cut connections."""

import http.client
import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final
from xml.etree import ElementTree

from gateway.errors import StoreDown
from gateway.store.s3 import PART_PATIENCE_S, PATIENCE_S, S3Wire
from gateway.store.s3_answers import S3Fault, parse_xml
from gateway.store.s3_streamed import Streamed

_CUTS: Final = 5  # how often a download may be cut without one byte in between


class S3File(io.RawIOBase):
    """An object being read; a cut connection is resumed where it broke, for a bounded time."""

    def __init__(self, wire: S3Wire, key: str, *, offset: int, length: int | None) -> None:
        super().__init__()
        self._wire = wire
        self._key = key
        self._at = offset
        self._end = None if length is None else offset + length
        self._match: dict[str, str] = {}
        self._streamed: Streamed | None = None
        if length != 0:
            self._streamed = self._start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Raises: StoreDown, BlobMissing."""
        done = 0
        for _ in range(_CUTS):
            if self._streamed is None or not len(buffer):
                return 0
            with suppress(OSError, http.client.HTTPException):
                done = self._streamed.readinto(buffer)
            if done:
                break
            self._streamed.end(whole=False)
            try:
                self._streamed = self._start()
            except S3Fault as fault:
                self._streamed = None
                raise fault.as_store_error() from fault
        else:
            raise StoreDown(detail=f"{self._key}: cut {_CUTS} times at byte {self._at}")
        self._at += done
        if self._at == self._end and self._streamed is not None:
            # Read to the end, so that the connection can be kept.
            self._streamed.response.read()
            self._streamed.end(whole=True)
            self._streamed = None
        return done

    def close(self) -> None:
        if self._streamed is not None:
            self._streamed.end(whole=False)
            self._streamed = None
        super().close()

    def _start(self) -> Streamed | None:
        """Raises: S3Fault, StoreDown."""
        if self._end is not None and self._at >= self._end:
            return None
        last = "" if self._end is None else str(self._end - 1)
        headers = {"Range": f"bytes={self._at}-{last}", **self._match} if self._at or last else {}
        patience_s = PART_PATIENCE_S if self._match else PATIENCE_S
        streamed = self._wire.start_read(self._key, headers, patience_s=patience_s)
        answered = streamed.response.headers
        length = answered.get("content-length", "")
        is_range = streamed.response.status == http.HTTPStatus.PARTIAL_CONTENT
        is_more = self._at > 0 or (self._end is not None and int(length or 0) > self._end)
        if not length or (is_more and not is_range):
            streamed.end(whole=False)
            raise StoreDown(detail=f"{self._key}: bytes from {self._at} were asked for, and S3 sends others")
        self._match = {"If-Match": answered["etag"]} if "etag" in answered else {}
        end = self._at + int(length)
        self._end = end if self._end is None else min(end, self._end)
        if self._at == self._end:
            streamed.end(whole=True)
            return None
        return streamed


def list_pages(
    wire: S3Wire,
    query: Mapping[str, str],
    *,
    next_markers: Mapping[str, str],
    key: str | None = None,
    patience_s: float = PATIENCE_S,
) -> Iterator[ElementTree.Element]:
    """Every page of a listing of the bucket, or of one upload to ``key``. ``next_markers`` maps a page's field to
    the parameter that asks for the next page.

    Raises: S3Fault, StoreDown.
    """
    asked = dict(query)
    while True:
        try:
            page = parse_xml(wire.request("GET", key, query=asked, patience_s=patience_s).body)
        except S3Fault as fault:
            if fault.answer.code == "NoSuchBucket":
                return
            raise
        yield page
        if page.findtext("{*}IsTruncated") != "true":
            return
        asked |= {name: page.findtext(f"{{*}}{field}") or "" for field, name in next_markers.items()}
