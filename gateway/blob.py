"""Owns downloads: the bytes of a stored image for whoever holds a link that the core signed.

A parallel downloader writes whatever a range request answers into the image (library-protocol: fact 3). So a range
is answered with 206, or with a 416 that has no content, or the connection is cut; never with an error page.
"""

import asyncio
import time
import urllib.parse
from typing import BinaryIO

from gateway.contract import BLOB_PREFIX, BlobLink, open_link
from gateway.errors import GatewayError, MethodNotAllowed, RangeNotSatisfiable, StoreCorrupt
from gateway.http.byte_range import ByteRange, choose_range
from gateway.http.exchange import ClientExchange
from gateway.http.head import Field
from gateway.http.reply import Reply
from gateway.store.base import BlobStore


class BlobDownload:
    """``GET`` and ``HEAD /v1/blobs/LINK``."""

    def __init__(self, store: BlobStore, secret: bytes) -> None:
        self._store = store
        self._secret = secret

    async def handle(self, exchange: ClientExchange) -> None:
        """Raises: NotFound (link), BlobMissing, StoreDown; with a Range header the connection is cut instead."""
        try:
            await self._answer(exchange)
        except GatewayError as error:
            if not exchange.head.fields.has("range") or exchange.is_started:
                raise
            exchange.error = error
            exchange.status = error.status
            exchange.abort()

    async def _answer(self, exchange: ClientExchange) -> None:
        head = exchange.head
        if head.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(headers=(("allow", "GET, HEAD"),))
        link = open_link(self._secret, head.path.removeprefix(BLOB_PREFIX), now=time.time())
        etag = f'"sha256.{link.sha256}"'
        fields = _fields(link, etag)
        if _knows(head.fields.get("if-none-match"), etag):
            await exchange.reply(Reply(status=304, fields=fields))
            return
        try:
            wanted = choose_range(head, size=link.size, etag=etag)
        except RangeNotSatisfiable as error:
            await exchange.reply(Reply(status=416, fields=error.headers))
            return
        await self._send(exchange, link, wanted, fields)

    async def _send(
        self, exchange: ClientExchange, link: BlobLink, wanted: ByteRange | None, fields: tuple[Field, ...]
    ) -> None:
        whole = ByteRange(0, link.size)
        part = wanted or whole
        loop = asyncio.get_running_loop()
        if exchange.head.method == "HEAD":
            await loop.run_in_executor(None, self._check, link)
            file: BinaryIO | None = None
        else:
            file = await loop.run_in_executor(None, self._open, link, part)
        try:
            if wanted is not None:
                fields = (*fields, ("content-range", wanted.content_range(link.size)))
            await exchange.start(200 if wanted is None else 206, fields, length=part.length)
            if file is not None:
                await exchange.send_file(file, part.length)
            await exchange.finish()
        finally:
            if file is not None:
                await loop.run_in_executor(None, file.close)

    # -- on a worker thread -----------------------------------------------------------------------------------

    def _check(self, link: BlobLink) -> None:
        if self._store.stat(link.key).size != link.size:
            raise StoreCorrupt(detail=f"{link.key} has not the size that the registry knows")

    def _open(self, link: BlobLink, part: ByteRange) -> BinaryIO:
        self._check(link)
        return self._store.open(link.key, offset=part.start, length=part.length)


def _fields(link: BlobLink, etag: str) -> tuple[Field, ...]:
    name = urllib.parse.quote(link.filename, safe="")
    return (
        ("content-type", "application/octet-stream"),
        ("accept-ranges", "bytes"),
        ("etag", etag),
        ("cache-control", "private, immutable, max-age=31536000"),
        ("content-disposition", f"attachment; filename*=UTF-8''{name}"),
        ("x-content-type-options", "nosniff"),
    )


def _knows(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
