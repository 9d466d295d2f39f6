"""Owns how the C library keeps memory that was let go of: the large blocks of uploads go back to the kernel."""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 512 * 1024  # above what is read and sent at once: that would be mapped anew each time
_SPARE_BYTES: Final = 8 * 1024 * 1024


def give_back_large_blocks() -> None:
    """Have allocations from 512 KiB on mapped, and unmapped when they are freed.

    glibc begins so, at 128 KiB, but takes the largest block that was ever freed for the new bound: from then on blocks
    of 1 MiB lie in the heap, where small ones between them keep what is free. After some rounds of uploads a process
    held 6 MiB more. Without glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _SPARE_BYTES)
