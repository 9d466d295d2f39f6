"""Owns ``objects/`` and ``blobs/``: bytes under their digest, and the keys that name them, by hard links.

The link count of an object is the number of its keys plus one, so nothing else has to be counted. Folders of keys
are opened one name at a time without following symbolic links: nothing put inside ``blobs/`` leads out of it.
"""

import errno
import fcntl
import io
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from gateway.contract import SHA256_HEX
from gateway.errors import BlobMissing, NotFound
from gateway.store.base import BlobStat
from gateway.store.keys import check_key

FOLDER_MODE: Final = 0o750
# A folder can vanish between opening it and linking into it, each time somebody deletes its last other key.
_TRIES: Final = 100
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Blobs:
    """The two trees."""

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self.objects = root / "objects" / "sha256"
        self.names = root / "blobs"
        # As text for the paths of every upload: a Path costs more than the system call.
        self._objects = str(self.objects)
        self._names = str(self.names)
        self._fsync = fsync

    def place(
        self, staged: tuple[str, ...], *, size: int, sha256: str, key: str, replaces: bool = False
    ) -> bool:
        """Link staged bytes to their digest, and the key to the digest. ``staged`` is where they may be, and stays.

        With ``replaces`` they count, and not those that are stored.
        Both links are made before either folder is flushed: the second flush finds little left to do.
        Raises: BlobMissing, OSError.
        """
        with self._shard(sha256, fcntl.LOCK_SH, create=True) as shard:
            self._keep_bytes(staged, size, shard, sha256, replaces=replaces)
            new = self._name(shard, sha256, key)
            self._flush(shard)
        return new

    def link(self, *, sha256: str, key: str) -> bool:
        """Raises: OSError."""
        try:
            with self._shard(sha256, fcntl.LOCK_SH) as shard:
                if not _is_there(sha256, shard):
                    return False
                self._name(shard, sha256, key)
        except FileNotFoundError:
            return False
        return True

    def has(self, sha256: str) -> bool:
        """Raises: OSError."""
        return _is_there(self._object(sha256), None)

    def stat(self, key: str) -> BlobStat:
        """Raises: BlobMissing, OSError."""
        with _missing(key), self._folder(key) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return BlobStat(size=status.st_size, modified=status.st_mtime)

    def open(self, key: str, *, offset: int, length: int | None) -> BinaryIO:
        """Raises: BlobMissing, OSError."""
        with _missing(key), self._folder(key) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        file = io.FileIO(fd, "rb") if length is None else _Range(fd, length)
        file.seek(offset)
        return file

    def delete(self, key: str) -> None:
        """Raises: OSError."""
        try:
            with self._folder(key) as (folder, name):
                os.unlink(name, dir_fd=folder)
                self._flush(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        collection = self.names / key.rpartition("/")[0]
        _remove_if_empty(collection)
        _remove_if_empty(collection.parent)

    def keys(self) -> Iterator[str]:
        """Raises: OSError."""
        for entity in _list(self.names, folders=True):
            for collection in _list(self.names / entity, folders=True):
                for name in _list(self.names / entity / collection, folders=False):
                    key = f"{entity}/{collection}/{name}"
                    try:
                        yield check_key(key)
                    except NotFound:
                        continue  # an administrator's own file

    def collect(self, *, older_than_s: float, dry_run: bool) -> int:
        """Raises: OSError."""
        before = time.time() - older_than_s
        freed = 0
        for shard in _list(self.objects, folders=True):
            folder = self.objects / shard
            if any(_garbage(folder / name, before) is not None for name in _list(folder, folders=False)):
                freed += self._collect_shard(folder, before, dry_run=dry_run)
        return freed

    def _collect_shard(self, folder: Path, before: float, *, dry_run: bool) -> int:
        """Under the lock that ``place`` and ``link`` share: what has no key cannot get one in between."""
        freed = 0
        with self._shard(folder.name, fcntl.LOCK_EX) as shard:
            for name in _list(folder, folders=False):
                size = _garbage(folder / name, before)
                if size is not None:
                    freed += size
                    if not dry_run:
                        os.unlink(name, dir_fd=shard)
        return freed

    def _keep_bytes(
        self, staged: tuple[str, ...], size: int, shard: int, sha256: str, *, replaces: bool
    ) -> None:
        """Link the first of these paths that exists. None does if that was done before: what is stored counts."""
        for path in staged:
            try:
                os.link(path, sha256, dst_dir_fd=shard, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except FileExistsError:
                if replaces or os.stat(sha256, dir_fd=shard).st_size != size:
                    # Damaged: the same digest cannot have two sizes. The fresh bytes take its place.
                    with suppress(FileNotFoundError), _spare_link(path, shard, None) as spare:
                        os.replace(spare, sha256, src_dir_fd=shard, dst_dir_fd=shard)
            return

    def _name(self, shard: int, sha256: str, key: str) -> bool:
        """Give the object its key; whether that is new. Raises: BlobMissing, OSError."""
        for _ in range(_TRIES):
            try:
                with self._folder(key, create=True) as (folder, name):
                    new = _link_key(shard, sha256, folder, name)
                    self._flush(folder)
                    return new
            except FileNotFoundError:
                # Either the bytes are not there, or ``delete`` removed the folder that was empty until now.
                if not _is_there(sha256, shard):
                    raise BlobMissing(detail=f"nothing staged or stored for {key}") from None
        raise OSError(errno.EBUSY, f"the folder of {key} keeps vanishing")

    def _object(self, sha256: str) -> Path:
        return self.objects / sha256[:2] / sha256

    @contextmanager
    def _shard(self, sha256: str, lock: int, *, create: bool = False) -> Iterator[int]:
        """The open folder of a digest, locked over all processes."""
        folder = f"{self._objects}/{sha256[:2]}"
        try:
            fd = os.open(folder, _FOLDER_FLAGS)
        except FileNotFoundError:
            if not create:
                raise
            self._make_shards()
            fd = os.open(folder, _FOLDER_FLAGS)
        try:
            fcntl.flock(fd, lock)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _folder(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder of a key, and the key's last name."""
        entity, collection, name = check_key(key).split("/")
        try:
            fd = os.open(self._names, _FOLDER_FLAGS)
        except FileNotFoundError:
            if not create:
                raise
            self._make(self.names)
            fd = os.open(self._names, _FOLDER_FLAGS)
        try:
            for folder in (entity, collection):
                below = self._enter(fd, folder, create=create)
                os.close(fd)
                fd = below
            yield fd, name
        finally:
            os.close(fd)

    def _enter(self, fd: int, name: str, *, create: bool) -> int:
        try:
            return os.open(name, _FOLDER_FLAGS, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):  # made at the same time
            os.mkdir(name, FOLDER_MODE, dir_fd=fd)
            self._flush(fd)
        return os.open(name, _FOLDER_FLAGS, dir_fd=fd)

    def _make_shards(self) -> None:
        """All at once: one flush instead of one per shard, in the first minutes of a busy store."""
        for number in range(256):
            (self.objects / f"{number:02x}").mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._flush_path(self.objects)
        self._make(self.objects)

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for made in (folder.parent, folder.parent.parent):
            self._flush_path(made)

    def _flush_path(self, folder: Path) -> None:
        fd = os.open(folder, _FOLDER_FLAGS)
        try:
            self._flush(fd)
        finally:
            os.close(fd)

    def _flush(self, fd: int) -> None:
        if self._fsync:
            os.fsync(fd)


class _Range(io.FileIO):
    """A plain file that ends after so many bytes; its ``fileno`` still reaches all of it."""

    def __init__(self, fd: int, length: int) -> None:
        super().__init__(fd, "rb")
        self._left = length

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        data = super().read(wanted)
        self._left -= len(data)
        return data

    def readall(self) -> bytes:
        pieces = iter(self.read, b"")
        return b"".join(pieces)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        done = super().readinto(memoryview(buffer)[: self._left])
        self._left -= done
        return done


@contextmanager
def _missing(key: str) -> Iterator[None]:
    """A name that is not there, or a symbolic link in its place, is a missing blob."""
    try:
        yield
    except OSError as exc:
        if isinstance(exc, FileNotFoundError | NotADirectoryError) or exc.errno == errno.ELOOP:
            raise BlobMissing(detail=key) from exc
        raise


def _link_key(shard: int, sha256: str, folder: int, name: str) -> bool:
    """Link the object to its key; whether that is new. Raises: FileNotFoundError (no such object, or folder)."""
    try:
        os.link(sha256, name, src_dir_fd=shard, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        if _inode(name, folder) != _inode(sha256, shard):
            # A copy (a backup restored without hard links), or bytes that were replaced as damaged.
            with _spare_link(sha256, shard, shard) as spare:
                os.replace(spare, name, src_dir_fd=shard, dst_dir_fd=folder)
        return False
    except FileNotFoundError:
        # The object may be lost while its key is there: then the key brings it back.
        os.link(name, sha256, src_dir_fd=folder, dst_dir_fd=shard, follow_symlinks=False)
        return False
    return True


@contextmanager
def _spare_link(source: str, shard: int, source_folder: int | None) -> Iterator[str]:
    """One more name for a file, in the shard, to be renamed over another one. ``collect`` removes forgotten ones."""
    spare = f".spare-{secrets.token_hex(8)}"
    os.link(source, spare, src_dir_fd=source_folder, dst_dir_fd=shard, follow_symlinks=False)
    try:
        yield spare
    finally:
        with suppress(FileNotFoundError):
            os.unlink(spare, dir_fd=shard)


def _garbage(path: Path, before: float) -> int | None:
    """How many bytes removing this would free; None if it must stay.

    A link taken away changes ``ctime``: the age counts from when the last key was deleted.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not SHA256_HEX.fullmatch(path.name):
        return 0
    return status.st_size if status.st_nlink == 1 and status.st_ctime <= before else None


def _inode(name: str, folder: int) -> int:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino


def _is_there(name: str | Path, folder: int | None) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _list(folder: Path, *, folders: bool) -> list[str]:
    """Names of the folders, or of the plain files, in a folder."""
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if (entry.is_dir(follow_symlinks=False) if folders else entry.is_file(follow_symlinks=False))
            ]
    except FileNotFoundError:
        return []


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or removed already
        folder.rmdir()
