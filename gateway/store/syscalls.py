"""Owns the Linux calls that Python lacks, and what an ``OSError`` of the disk store means to a client."""

import ctypes
import errno
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any, Final

from gateway.errors import StoreDown, StoreFull

_KEEP_SIZE: Final = 1  # linux/falloc.h FALLOC_FL_KEEP_SIZE: the size goes on telling how much has arrived
_TMPFS_MAGIC: Final = 0x01021994  # linux/magic.h
_START_WRITEBACK: Final = 2  # linux/fs.h SYNC_FILE_RANGE_WRITE: begin, do not wait
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# File systems without it (NFS 3, old ZFS), sandboxes without it, and offsets that a C library cannot say.
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM})


class DiskFaults:
    """``with DiskFaults("write"):`` turns an ``OSError`` into what it means: StoreFull (no space, quota) or StoreDown.

    A class, because a generator costs four times as much and every upload of a small file passes here nine times.
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, OSError):
            detail = f"{self._doing}: {exc}"
            raise (StoreFull if exc.errno in _NO_ROOM else StoreDown)(detail=detail) from exc


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _call(*names: str) -> Callable[..., Any] | None:
    """The first of these functions that the C library has; called without the interpreter's lock."""
    return next((getattr(_libc(), name) for name in names if hasattr(_libc(), name)), None)


def reserve(fd: int, size: int) -> bool:
    """Take ``size`` bytes of disk space for a file without changing its size. False where that is not supported.

    Raises: OSError (ENOSPC, EDQUOT).
    """
    # The plain name takes a 32-bit offset on 32-bit glibc; musl dropped the other one.
    fallocate = _call("fallocate64", "fallocate")
    if fallocate is None or size <= 0 or _is_tmpfs(fd):
        return False
    if fallocate(fd, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, "cannot reserve disk space")


def _is_tmpfs(fd: int) -> bool:
    """Whether the file lies in memory, where reserving means filling with zeros: a quarter second for each GiB."""
    fstatfs = _call("fstatfs64", "fstatfs")
    facts = ctypes.create_string_buffer(256)  # struct statfs begins with f_type, a long
    return fstatfs is not None and fstatfs(fd, facts) == 0 and _long_at_start(facts) == _TMPFS_MAGIC


def _long_at_start(facts: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.c_long.from_buffer(facts).value


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing this range out. A hint: failure means only that a later fsync takes longer."""
    sync_file_range = _call("sync_file_range")
    if sync_file_range is not None:
        sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _START_WRITEBACK)
