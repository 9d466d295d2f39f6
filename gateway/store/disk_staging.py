"""Owns ``staging/``: files on their way in, the disk space they have taken, and the locks that tell who is alive.

Every file is held by ``flock`` for as long as its writer, or its sealed bytes, belong to a living process: a lock
ends with the process however it dies, so whatever can be locked is left over.
"""

import fcntl
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from gateway.errors import BlobMissing, StoreCorrupt, StoreFull
from gateway.store.base import SealedBlob, StagedUpload
from gateway.store.syscalls import DiskFaults, reserve, start_writeback

PARTS_PREFIX: Final = "parts-"
_STAGED: Final = re.compile(r"[0-9a-f][0-9a-f-]{0,127}")
# Every so many bytes the kernel is asked to write out and, without a reservation, free space is looked at.
# docs/storage.md has the measurement: the final fsync of 2 GiB takes 0.1-0.5 s instead of 2 s.
STEP_BYTES: Final = 8 << 20
# What is reserved ahead of an upload that does not tell its size; without, early writeback shortens nothing.
AHEAD_BYTES: Final = 64 << 20
# Reserving costs more than it brings for small files: their blocks are allocated at the fsync anyway.
RESERVE_FROM_BYTES: Final = 8 << 20
SEALED_MODE: Final = 0o640


def check_staged(staged: str) -> str:
    """The staging name itself, once it is proven to be one. Raises: BlobMissing."""
    if not _STAGED.fullmatch(staged):
        raise BlobMissing(detail=f"not a staging name: {staged[:200]!r}")
    return staged


class Staging:
    """The folder, and the locks of what was sealed in this process but not placed yet."""

    def __init__(self, folder: Path, *, reserve_bytes: int, fsync: bool) -> None:
        self._folder = str(folder)  # not a Path: joining one costs more than the system call
        self.fsync = fsync
        self._reserve_bytes = reserve_bytes
        self._sealed: dict[str, int] = {}

    def create(self, staged: str, *, size_hint: int | None) -> "DiskWriter":
        """Raises: StoreFull, StoreDown."""
        path = f"{self._folder}/{check_staged(staged)}"
        with DiskFaults("begin an upload"):
            fd = self._open_held(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, fcntl.LOCK_EX)
        try:
            with DiskFaults("reserve space for an upload"):
                reserved = self.admit_more(fd, size_hint or 0, size_hint or 0)
        except BaseException:
            _remove(path)
            os.close(fd)
            raise
        return DiskWriter(self, staged, path, fd, reserved=reserved)

    def open_part(self, staged: str, *, offset: int, total_size: int) -> "DiskPartsWriter":
        """Raises: StoreFull, StoreDown."""
        path = self._parts_path(staged)
        with DiskFaults("begin a part"):
            fd = self._open_held(path, os.O_WRONLY | os.O_CREAT, fcntl.LOCK_SH)
        try:
            with DiskFaults("reserve space for a part"):
                status = os.fstat(fd)
                # What is reserved counts as blocks in use; only what is still to come needs room.
                missing = total_size - status.st_blocks * 512
                if missing > 0:
                    self.admit_more(fd, total_size, missing)
        except BaseException:
            os.close(fd)
            raise
        return DiskPartsWriter(fd, offset=offset, fsync=self.fsync)

    def read(self, staged: str, *, offset: int) -> BinaryIO:
        """Raises: BlobMissing, StoreDown."""
        with DiskFaults("read parts back"):
            fd = _open_if_there(self._parts_path(staged))
            if fd is None:
                raise BlobMissing(detail=f"no parts named {staged}")
            file = io.FileIO(fd, "rb")
            file.seek(offset)
        return file

    def seal_parts(self, staged: str, *, total_size: int) -> SealedBlob:
        """Raises: BlobMissing, StoreCorrupt, StoreDown."""
        with DiskFaults("seal parts"):
            fd = _open_if_there(self._parts_path(staged), os.O_RDWR)
            if fd is None:
                raise BlobMissing(detail=f"no parts named {staged}")
            try:
                fcntl.flock(fd, fcntl.LOCK_SH)
                size = os.fstat(fd).st_size
                if size == total_size:
                    self.make_durable(fd, size)
            except BaseException:
                os.close(fd)
                raise
        if size != total_size:
            os.close(fd)
            raise StoreCorrupt(detail=f"parts {staged}: {size} bytes, {total_size} expected")
        self.hold(staged, fd)
        return SealedBlob(staged=staged, size=total_size)

    def make_durable(self, fd: int, size: int) -> None:
        """Give back space that was reserved in vain, and flush. Raises: OSError."""
        os.ftruncate(fd, size)
        os.fchmod(fd, SEALED_MODE)
        if self.fsync:
            os.fsync(fd)

    def hold(self, staged: str, fd: int) -> None:
        """Keep the lock of something sealed until ``let_go``."""
        before = self._sealed.pop(staged, None)
        self._sealed[staged] = fd
        if before is not None:
            os.close(before)

    def has(self, staged: str) -> bool:
        """Whether there is anything under this name."""
        return any(Path(path).exists() for path in self.paths(staged))

    def let_go(self, staged: str) -> None:
        """End the lock of something sealed, if this process holds it."""
        fd = self._sealed.pop(staged, None)
        if fd is not None:
            os.close(fd)

    def paths(self, staged: str) -> tuple[str, str]:
        """Where sealed bytes lie, the one place or the other. Raises: BlobMissing (not a staging name)."""
        return f"{self._folder}/{check_staged(staged)}", self._parts_path(staged)

    def discard(self, staged: str) -> None:
        """Remove whatever has this name."""
        for path in self.paths(staged):
            _remove(path)
        self.let_go(staged)

    def uploads(self) -> Iterator[StagedUpload]:
        """Raises: StoreDown."""
        for name in self._files():
            with DiskFaults("list uploads"):
                fd = _open_if_there(f"{self._folder}/{name}")
                if fd is None:
                    continue
                try:
                    status = os.fstat(fd)
                    held = not _can_lock(fd)
                finally:
                    os.close(fd)
            yield StagedUpload(
                staged=name.removeprefix(PARTS_PREFIX),
                size=status.st_size,
                modified=status.st_mtime,
                held=held,
            )

    def sweep(
        self,
        *,
        parts_older_than_s: float,
        first: Callable[[str], None] = lambda _staged: None,
        prefix: str = "",
    ) -> int:
        """``first`` is called with each name, still locked, before it is removed. Raises: StoreDown."""
        parts_before = time.time() - parts_older_than_s
        removed = 0
        for name in self._files():
            if not name.removeprefix(PARTS_PREFIX).startswith(prefix):
                continue
            path = f"{self._folder}/{name}"
            with DiskFaults("sweep staging"):
                fd = _open_if_there(path)
                if fd is None:
                    continue
                try:
                    # The age is asked under the lock: a part may have arrived just now.
                    if _can_lock(fd) and not (
                        name.startswith(PARTS_PREFIX) and os.fstat(fd).st_mtime > parts_before
                    ):
                        first(name.removeprefix(PARTS_PREFIX))
                        removed += _remove(path)
                finally:
                    os.close(fd)
        return removed

    def admit_ahead(self, fd: int, size: int, reserved: int) -> int:
        """Take some more for a file that goes on beyond what was said; returns how many bytes of it are taken.

        Raises: StoreFull, OSError.
        """
        ahead = size + AHEAD_BYTES
        try:
            return self.admit_more(fd, ahead, ahead - max(size, reserved))
        except StoreFull:
            self._require_room(fd, 0)  # the last bytes may fit yet
            return reserved

    def _require_room(self, fd: int, size: int) -> None:
        """Raises: StoreFull, if ``size`` more bytes would eat into the reserve."""
        room = os.fstatvfs(fd)
        free = room.f_bavail * room.f_frsize
        if free - size < self._reserve_bytes:
            raise StoreFull(detail=f"{free} bytes free, {self._reserve_bytes} kept in reserve, {size} wanted")

    def admit_more(self, fd: int, size: int, missing: int) -> int:
        """Take the space for a file of ``size`` bytes, of which ``missing`` are not taken yet; returns how many
        bytes of it are taken. One at a time, over all processes: two uploads that do not fit together must not
        both see the same free space.

        Raises: StoreFull, OSError.
        """
        if missing < RESERVE_FROM_BYTES:
            self._require_room(fd, missing)
            return 0
        gate = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            self._require_room(fd, missing)
            return size if reserve(fd, size) else 0
        finally:
            os.close(gate)

    def _open_held(self, path: str, flags: int, lock: int) -> int:
        """Open and lock. A sweep may take a new file for a dead one before it is locked: then once more."""
        while True:
            try:
                fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                Path(self._folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, lock)
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _parts_path(self, staged: str) -> str:
        return f"{self._folder}/{PARTS_PREFIX}{check_staged(staged)}"

    def _files(self) -> list[str]:
        with DiskFaults("list staging"):
            try:
                with os.scandir(self._folder) as entries:
                    return [entry.name for entry in entries if _is_ours(entry)]
            except FileNotFoundError:
                return []


class DiskWriter:
    """One file on its way in."""

    def __init__(self, staging: Staging, staged: str, path: str, fd: int, *, reserved: int) -> None:
        self._staging = staging
        self._staged = staged
        self._path = path
        self._fd = fd
        self._reserved = reserved
        self._margin = 0  # what was promised is there to its last byte; beyond that, look a step ahead
        self._size = 0
        self._stepped = 0

    @property
    def staged(self) -> str:
        """The staging name."""
        return self._staged

    def write(self, data: memoryview | bytes) -> None:
        """Append. Raises: StoreFull, StoreDown."""
        with DiskFaults("write an upload"):
            self._size += write_all(self._fd, data)
            if self._size - self._stepped >= STEP_BYTES:
                self._step()

    def seal(self) -> SealedBlob:
        """Make it durable; its lock is kept until it is placed. Raises: StoreFull, StoreDown."""
        with DiskFaults("make an upload durable"):
            self._staging.make_durable(self._fd, self._size)
        self._staging.hold(self._staged, self._fd)
        self._fd = -1
        return SealedBlob(staged=self._staged, size=self._size)

    def discard(self) -> None:
        """Remove every trace; nothing is left to remove after ``place``."""
        _remove(self._path)
        self.abandon()

    def is_there(self) -> bool:
        """Whether it was neither placed nor discarded yet."""
        return Path(self._path).exists()

    def abandon(self) -> None:
        """Let go and leave it to the sweep."""
        self._staging.let_go(self._staged)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _step(self) -> None:
        if self._staging.fsync:
            start_writeback(self._fd, self._stepped, self._size - self._stepped)
        self._stepped = self._size
        if self._size > self._reserved - self._margin:
            self._reserved = self._staging.admit_ahead(self._fd, self._size, self._reserved)
            self._margin = STEP_BYTES


class DiskPartsWriter:
    """One part, written at its place in the whole file."""

    def __init__(self, fd: int, *, offset: int, fsync: bool) -> None:
        self._fd = fd
        self._fsync = fsync
        self._position = offset
        self._stepped = offset

    def write(self, data: memoryview | bytes) -> None:
        """Append to the part. Raises: StoreFull, StoreDown."""
        with DiskFaults("write a part"):
            self._position += write_all(self._fd, data, at=self._position)
            if self._fsync and self._position - self._stepped >= STEP_BYTES:
                start_writeback(self._fd, self._stepped, self._position - self._stepped)
                self._stepped = self._position

    def close(self, *, keep: bool) -> None:
        """Let go; with ``keep`` the bytes are durable. Raises: StoreFull, StoreDown."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with DiskFaults("keep a part"):
            try:
                if keep and self._fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)


def write_all(fd: int, data: memoryview | bytes, *, at: int | None = None) -> int:
    """Write everything, however short each write is; returns how many bytes that were."""
    size = len(data)
    done = os.write(fd, data) if at is None else os.pwrite(fd, data, at)
    while done < size:
        rest = memoryview(data)[done:]
        done += os.write(fd, rest) if at is None else os.pwrite(fd, rest, at + done)
    return size


def _is_ours(entry: os.DirEntry[str]) -> bool:
    name = entry.name.removeprefix(PARTS_PREFIX)
    return bool(_STAGED.fullmatch(name)) and entry.is_file(follow_symlinks=False)


def _open_if_there(path: str, access: int = os.O_RDONLY) -> int | None:
    try:
        return os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None


def _can_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: str) -> bool:
    """Unlink; False if that was not possible (a sweep will try again)."""
    try:
        os.unlink(path)  # noqa: PTH108 - a Path costs more than the call
    except OSError:
        return False
    return True
