"""Owns what happens to one request's content, at creation and afterwards: appended, and at the last byte finished."""

from dataclasses import replace

from gateway.errors import BodyTooLarge, InconsistentLength
from gateway.http.exchange import ClientExchange
from gateway.resumable.append import Appending
from gateway.resumable.finish import Finish
from gateway.resumable.hold import Holds
from gateway.resumable.ietf import Ietf
from gateway.resumable.request import Checks, Dialect
from gateway.resumable.resource import Upload, UploadRecords


class Receiving:
    """Takes the content of a request for an upload that it holds."""

    def __init__(self, appending: Appending, holds: Holds, finish: Finish, records: UploadRecords) -> None:
        self._appending = appending
        self._holds = holds
        self._finish = finish
        self._records = records

    async def receive(
        self,
        exchange: ClientExchange,
        upload: Upload,
        checks: Checks,
        dialect: Dialect,
        *,
        closes: bool | None,
    ) -> Upload:
        """The upload afterwards, with its answer if it is whole now.

        Raises: whatever ended the content too early (what had arrived counts), ChecksumMismatch, DigestMismatch,
        InconsistentLength, StoreError.
        """

        async def tell(offset: int) -> None:
            if isinstance(dialect, Ietf):
                await exchange.inform(104, dialect.progressed(offset))

        with self._holds.reading(upload.id, exchange.body):
            arrival = await self._appending.receive(
                exchange,
                upload,
                checks,
                expected=lambda: dialect.expected(checks, exchange.body.trailers),
                mismatch=dialect.mismatch,
                told=tell if dialect.informs else None,
            )
        if arrival.failure is not None:
            if dialect.informs and isinstance(arrival.failure, BodyTooLarge) and upload.length is not None:
                await self._finish.void(upload)
            raise arrival.failure
        upload = arrival.upload
        if closes:
            upload = self._close(upload)
        if upload.is_whole:
            upload = await self._finish.finish(upload, request_id=exchange.request_id)
        return upload

    def _close(self, upload: Upload) -> Upload:
        if upload.length is not None and upload.length != upload.offset:
            raise InconsistentLength(f"{upload.length} bytes were promised; {upload.offset} are here.")
        return self._records.save(replace(upload, length=upload.offset, is_closed=True))
