"""Owns the counts that all worker processes share: how much of what is limited they have in use together.

A few bytes of memory with a row for each kind and a column for each worker. A worker writes to its own column alone,
so nothing needs a lock; whoever asks adds up the row. Two workers that ask in the same microsecond may both take the
last place.
"""

import mmap
import os
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Self

TALLY_VARIABLE: Final = "SREGISTRY_TALLY"
_NUMBER: Final = "q"
_NUMBER_BYTES: Final = 8


class Kind(IntEnum):
    """What is counted."""

    UPLOADS = 0
    CONNECTIONS = 1


class Count:
    """How many there are of one kind: ``change`` tells of ours, ``total`` is of all."""

    def __init__(self, row: memoryview, own: int) -> None:
        """``row`` has a number for each worker; ours is at ``own``."""
        self._row = row
        self._own = own
        row[own] = 0  # a predecessor may have been killed

    @property
    def total(self) -> int:
        """Of all workers."""
        return sum(self._row)

    def change(self, by: int) -> None:
        """So many more, or fewer, of ours."""
        self._row[self._own] += by


class Tally:
    """The counts of one process among its fellows."""

    def __init__(self, memory: "mmap.mmap | bytearray", own: int) -> None:
        numbers = memoryview(memory).cast(_NUMBER)
        workers = len(numbers) // len(Kind)
        self._counts = [Count(numbers[kind * workers : (kind + 1) * workers], own) for kind in Kind]

    @classmethod
    def alone(cls) -> Self:
        """That of the only process."""
        return cls(bytearray(_size(1)), 0)

    def count(self, kind: Kind) -> Count:
        """The count of this kind."""
        return self._counts[kind]


def share_tally(workers: int) -> int:
    """Memory for the counts of so many workers: a descriptor for them to inherit."""
    fd = os.memfd_create("gateway-tally")
    os.ftruncate(fd, _size(workers))
    return fd


def clear_tally(fd: int, *, worker: int) -> None:
    """What a worker (from 1) had in use is free: it is dead, and may not come back for a while."""
    workers = os.fstat(fd).st_size // (len(Kind) * _NUMBER_BYTES)
    for kind in Kind:
        os.pwrite(fd, bytes(_NUMBER_BYTES), (kind * workers + worker - 1) * _NUMBER_BYTES)


def open_tally(environ: Mapping[str, str], *, worker: int | None) -> Tally:
    """The counts of this process; ``worker`` is its number from 1, None for the only one."""
    number = environ.get(TALLY_VARIABLE, "")
    if worker is None or not number.isdecimal():
        return Tally.alone()
    memory = mmap.mmap(int(number), 0)
    os.close(int(number))  # the mapping stays
    return Tally(memory, worker - 1)


def _size(workers: int) -> int:
    return len(Kind) * workers * _NUMBER_BYTES
