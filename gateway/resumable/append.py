"""Owns one request's bytes on their way behind an upload's offset: to the digest and to the store, then counted.

Bytes count once they are durable and the upload's file says so. A cut request keeps every byte that arrived, unless
they were to be verified as a whole: then nothing of it counts, and later bytes overwrite it.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from gateway.errors import BlobMissing, BodyTooLarge, GatewayError, NotFound
from gateway.http.exchange import ClientExchange
from gateway.resumable.request import Checks
from gateway.resumable.resource import Upload, UploadRecords
from gateway.store.base import BlobStore, PartsWriter
from gateway.upload.digest import Digests
from gateway.upload.handler import UploadResources
from gateway.upload.lane import Lane, lanes_of
from gateway.upload.running import READ_BYTES, RunningDigest, RunningDigests

# So much at most is lost when the gateway itself is killed in the middle of a request.
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
CHECKPOINT_S: Final = 5.0
LEAST_CHECKPOINT_BYTES: Final = 8 * 1024 * 1024  # S3 wants parts of 5 MiB
TRUSTED_S: Final = 30.0  # nobody sweeps parts that were written to within this

type Told = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class Arrival:
    """What became of one request's content. ``failure`` ended it early; ``upload`` is as its file says now."""

    upload: Upload
    failure: GatewayError | None = None


class StagedBytes:
    """Writes behind the offset and counts; used by one worker thread at a time."""

    def __init__(self, store: BlobStore, records: UploadRecords, upload: Upload, *, announced: int) -> None:
        self._store = store
        self._records = records
        self._total = upload.length if upload.length is not None else upload.offset + announced
        self._writer: PartsWriter | None = None
        self._position = upload.offset
        self._since = time.monotonic()
        self.upload = upload
        self.checkpoints = True

    def write(self, data: memoryview | bytes) -> None:
        """Append. Raises: StoreFull, StoreDown."""
        if self._writer is None:
            self._writer = self._store.open_part(
                self.upload.id, offset=self._position, total_size=self._total
            )
        self._writer.write(data)
        self._position += len(data)
        if self.checkpoints and self._is_due():
            self.count()

    def count(self) -> None:
        """Make what was written durable, then part of the upload. Raises: StoreFull, StoreDown."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(keep=True)
        self.upload = self._records.save(replace(self.upload, offset=self._position))
        self._since = time.monotonic()

    def drop(self) -> None:
        """What was written since the last count never was. Raises: StoreFull, StoreDown."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(keep=False)

    def _is_due(self) -> bool:
        new = self._position - self.upload.offset
        return new >= CHECKPOINT_BYTES or (
            new >= LEAST_CHECKPOINT_BYTES and time.monotonic() - self._since > CHECKPOINT_S
        )


class Appending:
    """Receives the content of one request."""

    def __init__(self, resources: UploadResources, records: UploadRecords, running: RunningDigests) -> None:
        self._resources = resources
        self._in_thread = resources.threads.run
        self._records = records
        self._running = running

    async def receive(
        self,
        exchange: ClientExchange,
        upload: Upload,
        checks: Checks,
        *,
        expected: Callable[[], Mapping[str, str]],
        mismatch: Callable[[], GatewayError],
        told: Told | None,
    ) -> Arrival:
        """Append the content to the upload, which this request holds. Raises: NotFound when its bytes are gone."""
        await self._in_thread(lambda: self._require_bytes(upload))
        upload = replace(upload, last_offset=upload.offset)
        staged = StagedBytes(
            self._resources.store, self._records, upload, announced=exchange.head.content_length or 0
        )
        staged.checkpoints = not checks.names
        before = None if upload.is_partial else self._running.take(upload.id, upload.offset)
        running = before.copy() if before is not None and checks.names else before
        digests = Digests(checks.names)
        lanes = self._lanes(exchange, staged, running, digests)
        failure: GatewayError | None = None
        try:
            await self._fill(exchange, staged, lanes, told)
        except GatewayError as exc:
            failure = exc
            await _settle(lanes)
        except BaseException:
            await _settle(lanes)
            await self._in_thread(staged.drop)
            raise
        is_known = all(lane.is_well for lane in lanes)
        try:
            if checks.names and failure is None and digests_differ(digests.values(), expected()):
                failure = mismatch()
            if failure is not None and (checks.names or isinstance(failure, BodyTooLarge)):
                running, is_known = before, bool(checks.names)
                await self._in_thread(staged.drop)
            else:
                await self._in_thread(staged.count)
        except GatewayError as exc:
            failure, is_known = failure or exc, False
        if running is not None and is_known:
            running.offset = staged.upload.offset
            self._running.keep(upload.id, running)
        return Arrival(staged.upload, failure)

    def _lanes(
        self,
        exchange: ClientExchange,
        staged: StagedBytes,
        running: RunningDigest | None,
        digests: Digests,
    ) -> list[Lane]:
        def digest(data: memoryview | bytes) -> None:
            if running is not None:
                running.digest.update(data)
            digests.update(data)

        declared = exchange.head.content_length
        return lanes_of(self._resources.threads, declared, digest=digest, write=staged.write)

    async def _fill(
        self, exchange: ClientExchange, staged: StagedBytes, lanes: list[Lane], told: Told | None
    ) -> None:
        upload = staged.upload
        most = upload.most if upload.length is None else upload.length
        room, known = most - upload.offset, upload.offset
        async with aclosing(exchange.body.blocks(self._resources.pool, keeps_cut=True)) as blocks:
            async for block, ranges in blocks:
                for start, end in ranges:
                    room -= end - start
                    if room < 0:
                        raise BodyTooLarge(f"The upload can have {most} bytes; more arrived.")
                    for lane in lanes:
                        lane.submit(block.view[start:end], block)
                for lane in lanes:
                    await lane.has_room()
                if told is not None and staged.upload.offset > known:
                    known = staged.upload.offset
                    await told(known)
        for lane in lanes:
            await lane.finish()

    def _require_bytes(self, upload: Upload) -> None:
        """A hole would be filled with zeros: after a rest, prove that nobody swept the bytes away."""
        is_fresh = self._records.clock() - upload.changed < TRUSTED_S
        if not upload.offset or (is_fresh and self._running.knows(upload.id, upload.offset)):
            return
        if not any(known.staged == upload.id for known in self._resources.store.uploads()):
            self._records.remove(upload.id)
            raise NotFound("The bytes of this upload were cleaned away. Start it again.")


async def _settle(lanes: list[Lane]) -> None:
    for lane in lanes:
        await lane.settle()


def digests_differ(found: Mapping[str, str], expected: Mapping[str, str]) -> bool:
    """Whether one of the expected digests is not what was found."""
    return any(found.get(name) != hexed for name, hexed in expected.items())


def copy_staged(store: BlobStore, sources: tuple[tuple[str, int], ...], staged: str) -> tuple[str, int]:
    """Put staged bytes one behind the other into a new, sealed file; its SHA-256 and size. Blocks.

    ``sources``: staging name and how many bytes of it. Raises: BlobMissing, StoreFull, StoreDown.
    """
    total = sum(size for _, size in sources)
    writer = store.create(staged, size_hint=total)
    digest = hashlib.sha256()
    try:
        for name, size in sources:
            left = size
            if not left:
                continue
            with store.read_staged(name) as file:
                while left:
                    data = _read_some(file, left)
                    digest.update(data)
                    writer.write(data)
                    left -= len(data)
        writer.seal()
    except BaseException:
        writer.discard()
        raise
    return digest.hexdigest(), total


def _read_some(file: BinaryIO, left: int) -> bytes:
    data = file.read(min(READ_BYTES, left))
    if not data:
        raise BlobMissing("The bytes of a part are gone. Send it again.")
    return data
