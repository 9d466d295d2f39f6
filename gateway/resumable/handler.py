"""Owns the story of a resumable upload: made, appended to, looked at, removed; one story for both protocols.

The URL is the permission to go on: it cannot be guessed, and what it leads to belongs to the user of the ticket that
the core granted before it was made. Whether that user may still do so, the core decides once more at the commit.
"""

from dataclasses import replace
from typing import Final

from gateway.errors import (
    BodyTooLarge,
    Forbidden,
    GatewayError,
    InconsistentLength,
    MethodNotAllowed,
    OffsetMismatch,
    UploadCompleted,
)
from gateway.http.exchange import ClientExchange
from gateway.http.head import RequestHead
from gateway.http.reply import Reply
from gateway.resumable import ietf, tus
from gateway.resumable.append import Appending
from gateway.resumable.cors import METHODS, Cors
from gateway.resumable.create import Creating
from gateway.resumable.finish import Finish, require_accepted
from gateway.resumable.hold import Holds
from gateway.resumable.ietf import Ietf
from gateway.resumable.receive import Receiving
from gateway.resumable.request import Append, Dialect, id_of
from gateway.resumable.resource import LARGEST_BYTES, Upload, UploadRecords, check_id
from gateway.resumable.tus import Tus
from gateway.settings import Server
from gateway.upload.handler import UploadResources
from gateway.upload.running import RunningDigests

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class ResumableUpload:
    """``/uploads/`` and everything below."""

    def __init__(
        self,
        resources: UploadResources,
        records: UploadRecords,
        secret: bytes,
        settings: Server,
        before: "ResumableUpload | None" = None,
    ) -> None:
        """``before``: who did this with other settings; the uploads that it knows are known here."""
        self._running: RunningDigests = before._running if before is not None else RunningDigests()
        self._resources = resources
        self._in_thread = resources.threads.run
        self._records = records
        self._without_version = settings.uploads_without_version
        self._cors = Cors(settings.cors_origins)
        self._holds: Holds = before._holds if before is not None else Holds(records)
        self._finish = Finish(resources, records, self._running, secret)
        appending = Appending(resources, records, self._running)
        self._receiving = Receiving(appending, self._holds, self._finish, records)
        self._creating = Creating(resources, records, self._receiving, self._finish, self._holds)

    async def handle(self, exchange: ClientExchange) -> None:
        """Answer. Raises: whatever the client, the core or the store can do wrong."""
        head = _as_meant(exchange.head)
        exchange.extra_fields = (*exchange.extra_fields, *self._cors.fields(head))
        if head.method == "OPTIONS":
            await exchange.reply(self._describe(head))
            return
        dialect = self._dialect(head)
        exchange.extra_fields = (*exchange.extra_fields, *dialect.fields)
        if isinstance(dialect, Tus):
            tus.require_version(head)
        try:
            reply = await self._answer(exchange, head, dialect)
        except GatewayError as error:
            refusal = dialect.refused(error, exchange.request_id)
            if refusal is None or exchange.closed.done():
                raise
            exchange.error = error
            reply = refusal
        await exchange.reply(reply)

    def _dialect(self, head: RequestHead) -> Dialect:
        if not head.fields.has("tus-resumable"):
            version = ietf.named_version(head)
            if version is not None:
                return Ietf(version)
            if self._without_version and ietf.is_meant(head):
                return Ietf(None)
        return Tus()

    def _describe(self, head: RequestHead) -> Reply:
        most = self._resources.limits.upload_bytes or LARGEST_BYTES
        fields = (*tus.describe(most), *ietf.describe(most), ("allow", METHODS))
        return Reply(status=204, fields=(*fields, *self._cors.preflight(head)))

    async def _answer(self, exchange: ClientExchange, head: RequestHead, dialect: Dialect) -> Reply:
        upload_id = id_of(head.path)
        if not upload_id:
            may_put = dialect.informs and head.method == "PUT"
            if head.method != "POST" and not may_put:
                raise MethodNotAllowed(headers=(("allow", "OPTIONS, POST"),))
            return await self._creating.create(exchange, head, dialect)
        check_id(upload_id)
        match head.method:
            case "PATCH":
                return await self._append(exchange, head, dialect, upload_id)
            case "HEAD":
                return await self._look(exchange, dialect, upload_id)
            case "GET" if dialect.informs:
                return await self._look(exchange, dialect, upload_id)
            case "DELETE":
                return await self._remove(exchange, upload_id)
            case _:
                raise MethodNotAllowed(headers=(("allow", "DELETE, HEAD, OPTIONS, PATCH"),))

    async def _look(self, exchange: ClientExchange, dialect: Dialect, upload_id: str) -> Reply:
        upload = await self._load(upload_id)
        if upload.answer is None:
            # The offset is only true once nobody appends: a running request is ended, as by its successor.
            async with self._holds.hold(exchange, upload_id):
                upload = await self._load(upload_id)
                if upload.is_whole and upload.answer is None:
                    upload = await self._finish.finish(upload, request_id=exchange.request_id)
        upload = await self._finish.refresh(upload)
        require_accepted(upload)
        return dialect.looked(upload)

    async def _append(
        self, exchange: ClientExchange, head: RequestHead, dialect: Dialect, upload_id: str
    ) -> Reply:
        append = dialect.read_append(head)
        with self._resources.admit(exchange):
            async with self._holds.hold(exchange, upload_id):
                upload = await self._load(upload_id)
                if upload.answer is not None:
                    return await self._repeat(upload, append, head, dialect)
                upload = await self._fit(upload, append, head, dialect)
                upload = await self._receiving.receive(
                    exchange, upload, append.checks, dialect, closes=append.closes
                )
        require_accepted(upload)
        return dialect.appended(upload)

    async def _repeat(self, upload: Upload, append: Append, head: RequestHead, dialect: Dialect) -> Reply:
        """The answer to an append to what is complete already: the kept one, if that is what was asked for."""
        if upload.is_final:
            raise Forbidden("A final upload is made of other uploads; nothing can be appended to it.")
        upload = await self._finish.refresh(upload)
        require_accepted(upload)
        if dialect.informs:
            if append.closes and append.offset in {upload.offset, upload.last_offset}:
                return dialect.appended(upload)
            raise UploadCompleted
        if append.offset != upload.offset:
            raise OffsetMismatch(expected=upload.offset, provided=append.offset)
        if head.content_length:
            raise BodyTooLarge("The upload is complete: nothing can be appended to it.")
        return dialect.appended(upload)

    async def _fit(self, upload: Upload, append: Append, head: RequestHead, dialect: Dialect) -> Upload:
        """The upload as this append goes on with it. Raises: OffsetMismatch, InconsistentLength, BodyTooLarge."""
        if append.offset != upload.offset:
            raise OffsetMismatch(expected=upload.offset, provided=append.offset)
        end = append.offset + (head.content_length or 0)
        if upload.length is not None and end > upload.length and dialect.informs:
            await self._finish.void(upload)
        if end > (upload.most if upload.length is None else upload.length):
            raise BodyTooLarge("The content goes beyond the upload's length.")
        if append.length is None or append.length == upload.length:
            return upload
        if upload.length is not None or append.length < end:
            raise InconsistentLength
        if append.length > upload.most:
            raise BodyTooLarge(f"The upload can have at most {upload.most} bytes.")
        return replace(upload, length=append.length)

    async def _remove(self, exchange: ClientExchange, upload_id: str) -> Reply:
        async with self._holds.hold(exchange, upload_id):
            upload = await self._load(upload_id)
            await self._finish.forget(upload)
        return Reply(status=204)

    async def _load(self, upload_id: str) -> Upload:
        return await self._in_thread(lambda: self._records.load(upload_id))


def _as_meant(head: RequestHead) -> RequestHead:
    """X-HTTP-Method-Override counts, but never turns a safe request into another: maintenance lets those pass."""
    meant = head.fields.get("x-http-method-override").strip().upper()
    return replace(head, method=meant) if meant and head.method not in _SAFE else head
