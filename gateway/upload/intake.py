"""Owns one file on its way in: bytes to the digest and to the store at once, then sealed or gone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from gateway.errors import BodyTooLarge
from gateway.net.blocks import Block
from gateway.store.base import BlobWriter, SealedBlob
from gateway.upload.digest import Digests
from gateway.upload.lane import Lane, lanes_of
from gateway.upload.threads import UploadThreads

# Below this a file is held back, and written, digested and sealed by one visit to a worker thread.
HELD_BYTES: Final = 64 * 1024


class FileStore(Protocol):
    """Where files go: a ``BlobStore``, or the folder of an upload route."""

    @property
    def waits_for_disk(self) -> bool:
        """Whether sealing a small file waits for more than the kernel's memory."""
        ...

    def create(self, staged: str, *, size_hint: int | None) -> BlobWriter:
        """Begin a file. Raises: StoreFull, StoreDown."""
        ...


class SmallFileStore(FileStore, Protocol):
    """A store that takes a whole small file at once."""

    def put(self, name: str, data: bytes) -> SealedBlob:
        """As ``create``, ``write`` and ``seal``. Raises: StoreFull, StoreDown; then nothing is left."""
        ...

    def remove(self, name: str) -> None:
        """Remove a whole file, if nobody has taken it. Never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A file that is durable. ``digests``: algorithm → lower-case hex."""

    sealed: SealedBlob
    digests: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.sealed.size

    @property
    def sha256(self) -> str:
        """The digest that images are known by."""
        return self.digests["sha256"]


class Intake:
    """Receives one file. ``take`` every piece, then ``seal``; every other ending must be ``discard``."""

    def __init__(
        self,
        store: FileStore,
        threads: UploadThreads,
        *,
        staged: str,
        size_hint: int | None,
        max_bytes: int,
        digests: Iterable[str] = ("sha256",),
        small_files: SmallFileStore | None = None,
    ) -> None:
        """``small_files`` is ``store``, if it takes whole small files at once."""
        self._store = store
        self._threads = threads
        self._staged = staged
        self._size_hint = size_hint
        self._max_bytes = max_bytes
        self._writer: BlobWriter | None = None
        self._digests = Digests(digests)
        self._small_files = small_files
        self._is_put = False
        self._lanes: list[Lane] = []  # as soon as there is more than what is held
        self._held: bytes | None = None
        self.size = 0

    async def take(self, data: memoryview | bytes, block: Block | None) -> None:
        """Take the next piece. ``data`` is a slice of ``block``, or of memory that nobody else writes to.

        Raises: BodyTooLarge, StoreFull, StoreDown.
        """
        self.size += len(data)
        if self._max_bytes and self.size > self._max_bytes:
            raise BodyTooLarge(f"The file is larger than the {self._max_bytes} bytes that are allowed here.")
        holder = block if isinstance(data, memoryview) else None
        if self.size == len(data) <= HELD_BYTES:
            self._held = bytes(data)  # a copy of so little is cheaper than keeping a block from others
            return
        self._submit_held()
        self._submit(data, holder)
        for lane in self._lanes:
            await lane.has_room()

    def _submit(self, data: memoryview | bytes, holder: Block | None) -> None:
        if not self._lanes:
            self._lanes = lanes_of(
                self._threads, self._size_hint, digest=self._digests.update, write=self._write
            )
        for lane in self._lanes:
            lane.submit(data, holder)

    def _submit_held(self) -> None:
        if self._held is not None:
            self._submit(self._held, None)
            self._held = None

    async def finish(self) -> None:
        """Wait until every piece is digested and written. Raises: StoreFull, StoreDown."""
        for lane in self._lanes:
            await lane.finish()

    async def seal(self) -> Received:
        """Everything durable, with its digests. Raises: StoreFull, StoreDown."""
        await self.finish()
        if self._held is not None and not self._store.waits_for_disk:
            # Some 50 µs of work in the kernel's memory: handing that to a thread and back costs twice as much.
            sealed = self._seal()
        else:
            sealed = await self._threads.run(self._seal)
        return Received(sealed=sealed, digests=self._digests.values())

    async def discard(self) -> None:
        """Leave nothing. Never raises."""
        for lane in self._lanes:
            await lane.settle()
        if self._writer is not None:
            await self._threads.run(self._writer.discard)
        elif self._small_files is not None and self._is_put:
            await self._threads.run(partial(self._small_files.remove, self._staged))

    # -- on a worker thread -----------------------------------------------------------------------------------

    def _write(self, data: memoryview | bytes) -> None:
        if self._writer is None:
            self._writer = self._store.create(self._staged, size_hint=self._size_hint)
        self._writer.write(data)

    def _seal(self) -> SealedBlob:
        if self._held is not None and self._small_files is not None:
            self._digests.update(self._held)
            self._is_put = True
            return self._small_files.put(self._staged, self._held)
        if self._held is not None:
            self._write(self._held)
            self._digests.update(self._held)
        if self._writer is None:  # an empty file
            self._writer = self._store.create(self._staged, size_hint=0)
        return self._writer.seal()
