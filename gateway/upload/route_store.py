"""Owns the folder of an upload route: files that a backend takes over by their path.

What lies under the folder:

``.incoming/``
    files on their way in, private. A file leaves it only when it is whole, so a backend never sees half a file.
    Small files that arrive whole are never in it: they have no name at all until they get their last one.
``a/bc/NAME``
    whole files, in hashed sub-folders that are made when they are needed. NAME is random: no client can guess it,
    no client's value is ever part of a path, and no name is used twice.
"""

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.store.base import BlobWriter, SealedBlob, StagedUpload
from gateway.store.disk_staging import Staging, write_all
from gateway.store.syscalls import DiskFaults

INCOMING: Final = ".incoming"
_NAME_BYTES: Final = 16
# File systems without hard links; there the random name alone must do.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
# What file systems say to O_TMPFILE that have no files without a name.
_NO_NAMELESS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, *_NO_LINKS})
# What sandboxes say to their naming: without /proc, or with a policy against it.
_NO_NAMING: Final = frozenset({errno.ENOENT, errno.EACCES, errno.EXDEV, errno.EINVAL, *_NO_LINKS})
_DESCRIPTORS: Final = "/proc/self/fd"


class RouteStore:
    """Files of one route. Blocking, for worker threads, like a ``BlobStore``; one writer belongs to one thread."""

    def __init__(
        self, folder: Path, *, levels: tuple[int, ...], access: int, reserve_bytes: int, fsync: bool
    ) -> None:
        self._folder = folder.absolute()
        self._root = str(self._folder)
        self._levels = levels
        self._is_made = False
        self._has_nameless = True
        self._access = access
        # Whoever may read the files must reach them; whoever may write them may also move them away.
        self._folder_mode: Final = 0o700 | (access & 0o044) >> 2 | (access & 0o022) | (access & 0o022) >> 1
        self._fsync = fsync
        self._reserve_bytes = reserve_bytes
        self._staging = Staging(self._folder / INCOMING, reserve_bytes=reserve_bytes, fsync=fsync)

    @property
    def waits_for_disk(self) -> bool:
        """Whether sealing waits until the bytes are on the disk."""
        return self._fsync

    def create(self, staged: str, *, size_hint: int | None) -> "RouteWriter":
        """Begin a file. ``staged`` is its new, unguessable name: take one from ``new_name``.

        Raises: StoreFull, StoreDown.
        """
        if not self._is_made:
            with DiskFaults("make a route's store"):
                self._make_folders(self._folder)
            self._is_made = True
        writer = self._staging.create(staged, size_hint=size_hint)
        return RouteWriter(writer, publish=self.publish, remove=self.remove)

    def put(self, name: str, data: bytes) -> SealedBlob:
        """Store a whole small file: as ``create``, ``write`` and ``seal``, at half their price.

        Raises: StoreFull, StoreDown; then nothing is left.
        """
        with DiskFaults("store a small file"):
            if self._has_nameless and self._put_nameless(name, data):
                return SealedBlob(staged=name, size=len(data))
        writer = self.create(name, size_hint=len(data))
        try:
            writer.write(data)
            return writer.seal()
        except BaseException:
            writer.discard()
            raise

    def _put_nameless(self, name: str, data: bytes) -> bool:
        """Without a name until it is whole, so that no kill leaves any of it. False where that cannot be done."""
        folder = self._folder_of(name)
        fd = self._open_nameless(folder)
        if fd is None:
            return False
        try:
            self._staging.admit_more(fd, len(data), len(data))
            write_all(fd, data)
            os.fchmod(fd, self._access)
            if self._fsync:
                os.fsync(fd)
            if not self._name(fd, f"{folder}/{name}"):
                return False
        finally:
            os.close(fd)
        self._keep(name, folder)
        return True

    def _keep(self, name: str, folder: str) -> None:
        """A file that has just got its name here keeps it, or is gone. Raises: OSError."""
        if self._fsync:
            try:
                _flush_folder(Path(folder))
            except OSError:
                self.remove(name)
                raise

    def _name(self, fd: int, path: str) -> bool:
        try:
            # A descriptor of a folder, even one that does not matter, makes Python follow the link.
            os.link(f"{_DESCRIPTORS}/{fd}", path, src_dir_fd=fd)
        except OSError as exc:
            if exc.errno not in _NO_NAMING:
                raise
            # A backend that tidies up may have removed the folder: that says nothing about the next file.
            self._has_nameless = exc.errno == errno.ENOENT and Path(_DESCRIPTORS).is_dir()
            return False
        return True

    def _open_nameless(self, folder: str) -> int | None:
        for _ in range(2):
            try:
                return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                self._make_folders(Path(folder))
            except OSError as exc:
                if exc.errno not in _NO_NAMELESS:
                    raise
                self._has_nameless = False
                break
        return None

    def path_of(self, name: str) -> str:
        """Where a whole file of this name lies: absolute, as ``$upload_tmp_path`` tells the backend."""
        return f"{self._folder_of(name)}/{name}"

    def _folder_of(self, name: str) -> str:
        # Text, not Path: joining one costs more than the system calls around it.
        folder, end = self._root, len(name)
        for level in self._levels:
            folder = f"{folder}/{name[end - level : end]}"
            end -= level
        return folder

    def incoming(self) -> Iterator[StagedUpload]:
        """The files on their way in, and left over. Raises: StoreDown."""
        return self._staging.uploads()

    def free_bytes(self) -> int | None:
        """Room for new files, beyond the reserve."""
        for folder in (self._folder, *self._folder.parents):
            with suppress(OSError):
                room = os.statvfs(folder)
                return max(0, room.f_bavail * room.f_frsize - self._reserve_bytes)
        return None

    def publish(self, name: str) -> str:
        """Move a sealed file to where the backend finds it. Raises: StoreFull, StoreDown."""
        folder = self._folder_of(name)
        source, target = f"{self._root}/{INCOMING}/{name}", f"{folder}/{name}"
        with DiskFaults("hand a file to the backend"):
            os.chmod(source, self._access)  # noqa: PTH101
            try:
                _move(source, target)
            except FileNotFoundError:
                self._make_folders(Path(folder))
                _move(source, target)
            self._keep(name, folder)
        self._staging.let_go(name)
        return target

    def remove(self, name: str) -> None:
        """Remove a whole file, if the backend has not taken it. Never raises."""
        with suppress(OSError):
            os.unlink(self.path_of(name))  # noqa: PTH108

    def sweep(self, *, older_than_s: float) -> int:
        """Remove what dead processes left behind, and whole files older than this (0 = none); returns how many.

        Raises: StoreDown.
        """
        removed = self._staging.sweep(parts_older_than_s=0)
        if older_than_s:
            before = time.time() - older_than_s
            with DiskFaults("sweep a route's store"):
                for path in self._whole_files():
                    with suppress(FileNotFoundError):
                        if path.lstat().st_mtime < before:
                            path.unlink()
                            removed += 1
        return removed

    def _make_folders(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._folder:
            self._make_folders(folder.parent)
        try:
            folder.mkdir(mode=0o700, parents=folder == self._folder)
        except FileExistsError:
            return  # another upload was faster
        folder.chmod(self._folder_mode)
        if self._fsync:
            _flush_folder(folder.parent)

    def _whole_files(self) -> Iterator[Path]:
        for folder, folders, names in self._folder.walk():
            if INCOMING in folders:
                folders.remove(INCOMING)
            depth = len(folder.relative_to(self._folder).parts)
            if depth < len(self._levels):
                continue
            for name in names:
                if self.path_of(name) == f"{folder}/{name}" and _is_ours(folder / name):
                    yield folder / name


class RouteWriter:
    """One file on its way in, whatever store it goes to. Leaving without ``seal`` must end in ``discard``.

    ``publish`` lets the backend see what was sealed; ``remove`` takes away what it may have seen. Neither knows more
    than the file's name.
    """

    def __init__(
        self, writer: BlobWriter, *, publish: Callable[[str], object], remove: Callable[[str], None]
    ) -> None:
        self._writer = writer
        self._publish = publish
        self._remove = remove
        self._is_published = False

    @property
    def staged(self) -> str:
        """The file's name."""
        return self._writer.staged

    def write(self, data: memoryview | bytes) -> None:
        """Append. Raises: StoreFull, StoreDown."""
        self._writer.write(data)

    def seal(self) -> SealedBlob:
        """Make it durable and let the backend see it, at ``path_of(staged)``.

        Raises: StoreFull, StoreDown, StoreCorrupt.
        """
        sealed = self._writer.seal()
        self._publish(self.staged)
        self._is_published = True
        return sealed

    def discard(self) -> None:
        """Remove every trace, also after ``seal``. Never raises; may be called twice."""
        if self._is_published:
            self._is_published = False
            self._remove(self.staged)
        self._writer.discard()


def new_name() -> str:
    """A name that nobody can guess and that was never used."""
    return secrets.token_hex(_NAME_BYTES)


def _move(source: str, target: str) -> None:
    try:
        os.link(source, target)  # unlike a rename it never replaces a file
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        os.rename(source, target)  # noqa: PTH104
    else:
        os.unlink(source)  # noqa: PTH108


def _is_ours(path: Path) -> bool:
    name = path.name
    if len(name) != 2 * _NAME_BYTES or set(name) - set("0123456789abcdef"):
        return False
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False  # the backend took it just now


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
