"""Owns ``MemoryStore``: what tests use where a real store would only be slow. The contract suite proves it equal."""

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from gateway.errors import BlobMissing, StoreCorrupt, StoreDown, StoreFull
from gateway.store.base import BlobStat, SealedBlob, StagedUpload
from gateway.store.keys import check_digest, check_key, digest_of


@dataclass(slots=True, kw_only=True)
class _Staged:
    data: bytearray = field(default_factory=bytearray)
    modified: float = field(default_factory=time.time)
    holders: int = 0
    parts: bool = False


class MemoryStore:
    """A ``BlobStore`` in memory.

    capacity: bytes that fit, None = no limit. Set ``down`` to make every call raise ``StoreDown``, and ``full``
    to make every write raise ``StoreFull``; ``crash`` lets go of every upload, as the death of a process does.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.down = False
        self.full = False
        self._lock = threading.RLock()
        self._staged: dict[str, _Staged] = {}
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._keys: dict[str, float] = {}

    @property
    def waits_for_disk(self) -> bool:
        return True

    def require_up(self, *, anew: bool = False) -> None:
        """Raises: StoreDown."""
        self._up()

    def create(self, staged: str, *, size_hint: int | None) -> "MemoryWriter":
        self._up()
        with self._lock:
            if staged in self._staged:
                raise StoreDown(detail=f"{staged} exists")
            self.require_room(size_hint or 0)
            self._staged[staged] = _Staged(holders=1)
        return MemoryWriter(self, staged)

    def open_part(self, staged: str, *, offset: int, total_size: int) -> "MemoryPartsWriter":
        self._up()
        with self._lock:
            entry = self._staged.setdefault(staged, _Staged(parts=True))
            self.require_room(total_size - len(entry.data))
            entry.holders += 1
        return MemoryPartsWriter(self, staged, offset)

    def read_staged(self, staged: str, *, offset: int = 0) -> BinaryIO:
        return io.BytesIO(bytes(self._entry(staged).data[offset:]))

    def seal_parts(self, staged: str, *, total_size: int) -> SealedBlob:
        entry = self._entry(staged)
        if len(entry.data) != total_size:
            raise StoreCorrupt(detail=f"{len(entry.data)} bytes, {total_size} expected")
        entry.holders = 1
        return SealedBlob(staged=staged, size=total_size)

    def discard_staged(self, staged: str) -> None:
        self._staged.pop(staged, None)

    def place(self, sealed: SealedBlob, *, sha256: str, key: str) -> bool:
        self._up()
        check_digest(sha256, key=key)
        with self._lock:
            entry = self._staged.pop(sealed.staged, None)
            if sha256 not in self._objects:
                if entry is None:
                    raise BlobMissing(detail=key)
                self._objects[sha256] = (bytes(entry.data), time.time())
            new = key not in self._keys
            self._keys.setdefault(key, time.time())
        return new

    def replace(self, sealed: SealedBlob, *, sha256: str, key: str) -> None:
        self._up()
        check_digest(sha256, key=key)
        with self._lock:
            entry = self._staged.pop(sealed.staged, None)
            if entry is None:
                raise BlobMissing(detail=key)
            self._objects[sha256] = (bytes(entry.data), time.time())
            self._keys[key] = time.time()

    def link(self, *, sha256: str, key: str) -> bool:
        self._up()
        check_digest(sha256, key=key)
        if sha256 not in self._objects:
            return False
        self._keys.setdefault(key, time.time())
        return True

    def has(self, sha256: str) -> bool:
        self._up()
        return check_digest(sha256) in self._objects

    def stat(self, key: str) -> BlobStat:
        return BlobStat(size=len(self._data(key)), modified=self._keys[key])

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        data = self._data(key)
        return io.BytesIO(data[offset:] if length is None else data[offset : offset + length])

    def delete(self, key: str) -> None:
        self._up()
        if self._keys.pop(check_key(key), None) is not None:
            data, _ = self._objects[digest_of(key)]
            self._objects[digest_of(key)] = (data, time.time())

    def keys(self) -> Iterator[str]:
        self._up()
        return iter(list(self._keys))

    def collect(self, *, older_than_s: float, dry_run: bool) -> int:
        self._up()
        named = {digest_of(key) for key in self._keys}
        before = time.time() - older_than_s
        garbage = {
            sha256: len(data)
            for sha256, (data, modified) in self._objects.items()
            if sha256 not in named and modified <= before
        }
        for sha256 in () if dry_run else garbage:
            del self._objects[sha256]
        return sum(garbage.values())

    def uploads(self) -> Iterator[StagedUpload]:
        self._up()
        for staged, entry in list(self._staged.items()):
            yield StagedUpload(
                staged=staged, size=len(entry.data), modified=entry.modified, held=entry.holders > 0
            )

    def sweep(self, *, parts_older_than_s: float, prefix: str = "") -> int:
        self._up()
        before = time.time() - parts_older_than_s
        dead = [
            staged
            for staged, entry in self._staged.items()
            if staged.startswith(prefix)
            and not entry.holders
            and (not entry.parts or entry.modified <= before)
        ]
        for staged in dead:
            del self._staged[staged]
        return len(dead)

    def check(self) -> str:
        self._up()
        self.require_room(0)
        return "memory store"

    def free_bytes(self) -> int | None:
        if self.capacity is None:
            return None
        used = sum(len(data) for data, _ in self._objects.values())
        return self.capacity - used - sum(len(entry.data) for entry in self._staged.values())

    def crash(self) -> None:
        """Let go of every upload."""
        for entry in self._staged.values():
            entry.holders = 0

    def require_room(self, size: int) -> None:
        """Raises: StoreFull."""
        free = self.free_bytes()
        if self.full or (free is not None and free < size):
            raise StoreFull(detail=f"{size} bytes wanted, {free} free")

    def put_bytes(self, staged: str, offset: int, data: memoryview | bytes) -> None:
        """Write staged bytes. Raises: StoreFull, StoreDown."""
        self._up()
        with self._lock:
            entry = self._entry(staged)
            missing = offset - len(entry.data)
            self.require_room(max(0, missing + len(data)))
            entry.data.extend(bytes(max(0, missing)))
            entry.data[offset : offset + len(data)] = data
            entry.modified = time.time()

    def let_go(self, staged: str) -> None:
        """One holder fewer."""
        if staged in self._staged:
            self._staged[staged].holders -= 1

    def _entry(self, staged: str) -> _Staged:
        self._up()
        try:
            return self._staged[staged]
        except KeyError as exc:
            raise BlobMissing(detail=staged) from exc

    def _data(self, key: str) -> bytes:
        self._up()
        if check_key(key) not in self._keys:
            raise BlobMissing(detail=key)
        return self._objects[digest_of(key)][0]

    def _up(self) -> None:
        if self.down:
            raise StoreDown(detail="the test took it down")


class MemoryWriter:
    """One file on its way in."""

    def __init__(self, store: MemoryStore, staged: str) -> None:
        self._store = store
        self._staged = staged
        self._size = 0

    @property
    def staged(self) -> str:
        return self._staged

    def write(self, data: memoryview | bytes) -> None:
        self._store.put_bytes(self._staged, self._size, data)
        self._size += len(data)

    def seal(self) -> SealedBlob:
        self._store.put_bytes(self._staged, self._size, b"")
        return SealedBlob(staged=self._staged, size=self._size)

    def discard(self) -> None:
        self._store.discard_staged(self._staged)


class MemoryPartsWriter:
    """One part of a file."""

    def __init__(self, store: MemoryStore, staged: str, offset: int) -> None:
        self._store = store
        self._staged = staged
        self._position = offset
        self._open = True

    def write(self, data: memoryview | bytes) -> None:
        self._store.put_bytes(self._staged, self._position, data)
        self._position += len(data)

    def close(self, *, keep: bool) -> None:
        if self._open:
            self._open = False
            self._store.let_go(self._staged)
