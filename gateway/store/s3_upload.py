"""Owns a whole file on its way into S3."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gateway.errors import BlobMissing, StoreError
from gateway.store.base import SealedBlob
from gateway.store.disk_staging import DiskWriter
from gateway.store.s3_answers import S3Faults
from gateway.store.s3_multipart import PartSender, S3Multiparts, part_bytes_at
from gateway.store.s3_records import OBJECTS

_DISCARD_S: Final = 10.0


class S3Writer:
    """One file on its way in. What fits in one part is sent in one request when it is sealed.

    ``remove`` takes away what S3 has of an upload that was not placed, and its record. ``folder`` is what the object's
    key begins with.
    """

    def __init__(
        self,
        multiparts: S3Multiparts,
        record: DiskWriter,
        *,
        size_hint: int | None,
        remove: Callable[[str], None],
        folder: str = OBJECTS,
    ) -> None:
        self._multiparts = multiparts
        self._record = record
        self._remove = remove
        self._staged = staged = record.staged
        self._key = folder + staged
        self._size_hint = size_hint
        self._upload_id = ""
        self._sender = PartSender(multiparts, self._key, upload_id=self._start, place=self._place)

    @property
    def staged(self) -> str:
        """The staging name."""
        return self._staged

    def write(self, data: memoryview | bytes) -> None:
        """Append. Raises: StoreFull, StoreDown."""
        with S3Faults():
            self._sender.write(data)

    def seal(self) -> SealedBlob:
        """The object is whole and verified, but nothing points to it. Raises: StoreFull, StoreDown, StoreCorrupt."""
        size = self._sender.size
        with S3Faults():
            if self._upload_id:
                self._sender.cut(self._sender.filled)
                parts = [part for _, part in self._sender.finish()]
                self._multiparts.complete(self._key, self._upload_id, parts)
            else:
                self._multiparts.put(self._key, self._sender.rest())
                self._multiparts.verify(self._key, size)
        self._sender.close(timeout_s=0)
        self._record.seal()
        return SealedBlob(staged=self._staged, size=size)

    def discard(self) -> None:
        """Remove every trace, unless it was placed; what S3 does not let go of now is left to the sweep."""
        if self._sender.close(timeout_s=_DISCARD_S) and self._record.is_there():
            with suppress(StoreError, BlobMissing), S3Faults():
                self._remove(self._staged)
        self._record.abandon()

    def _start(self) -> str:
        self._upload_id = self._upload_id or self._multiparts.start(self._key)
        return self._upload_id

    def _place(self, _start: int) -> tuple[int, int]:
        number = self._sender.parts + 1
        first = self._multiparts.buffers.fair_part_bytes()
        return number, part_bytes_at(number, first=first, size_hint=self._size_hint)
