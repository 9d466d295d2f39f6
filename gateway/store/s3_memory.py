"""Owns where parts wait until S3 has them: files without a name in memory, bounded over all uploads, else on the disk.

The kernel's memory rather than ours: parts of 5 MiB and more, of which each upload has several, would be most of what
the process takes, and from a file they go to the socket without being copied once more (sendfile).
"""

import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from gateway.store.disk_staging import write_all
from gateway.store.syscalls import DiskFaults

MIB: Final = 1 << 20
# The smallest part that S3 takes, but for the last one of a file.
LEAST_PART_BYTES: Final = 5 * MIB
_SHARES: Final = 3  # buffers of one upload: one being filled, two on their way
_PIECE_BYTES: Final = 256 * 1024


class PartMemory:
    """Room for one part: in memory, or in a nameless file of ``folder``. Must be closed."""

    def __init__(self, size: int, *, folder: Path | None = None) -> None:
        """Raises: OSError."""
        self._file: IO[bytes]
        if folder is None:
            self._file = open(os.memfd_create("s3-part"), "r+b", buffering=0)  # noqa: PTH123, SIM115 - it has no path
        else:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with the part
        self._size = size
        self.is_memory = folder is None

    def __len__(self) -> int:
        return self._size

    def write(self, data: memoryview, at: int) -> None:
        """Put bytes there. Pages are taken with the first write to them. Raises: StoreFull, StoreDown."""
        with DiskFaults("keep a part until S3 has it"):
            write_all(self._file.fileno(), data, at=at)

    def read(self, at: int, size: int) -> bytes:
        """A copy of some of it. Raises: OSError."""
        return os.pread(self._file.fileno(), size, at)

    def send(self, to: socket.socket, size: int) -> None:
        """Send the first ``size`` bytes. They must not change before the answer is here: nothing is copied.

        Raises: OSError.
        """
        if not isinstance(to, ssl.SSLSocket):
            to.sendfile(self._file, 0, size)
            return
        for done in range(0, size, _PIECE_BYTES):
            to.sendall(os.pread(self._file.fileno(), min(_PIECE_BYTES, size - done), done))

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Filled:
    """The first ``size`` bytes of a part's memory, as the body of a request."""

    memory: PartMemory
    size: int

    def __len__(self) -> int:
        return self.size

    def send(self, to: socket.socket) -> None:
        """Raises: OSError."""
        self.memory.send(to, self.size)


class Buffers:
    """Memory for parts, bounded over all uploads of the process.

    An upload that has nothing on its way gets its one buffer in any case, or uploads that each hold half a part
    would wait for each other for ever. When there is no memory left for it, that buffer is a file in ``folder``:
    hundreds of slow uploads cost room on the disk, not gigabytes of memory.
    """

    def __init__(self, budget_bytes: int, *, part_bytes: int, folder: Path) -> None:
        self._budget = budget_bytes
        self._folder = folder
        self._part_bytes = part_bytes
        self._changed = threading.Condition()
        self._used = 0
        self._uploads = 0
        self._spare: list[PartMemory] = []

    def resize(self, budget_bytes: int) -> None:
        """Another bound from now on; what is lent stays lent."""
        with self._changed:
            self._budget = budget_bytes
            self._changed.notify_all()

    def join(self) -> None:
        """One more upload shares the memory."""
        with self._changed:
            self._uploads += 1

    def leave(self) -> None:
        """One fewer."""
        with self._changed:
            self._uploads -= 1
            if not self._uploads:
                self._drop_spare()

    def fair_part_bytes(self) -> int:
        """A part size at which every upload can fill one while others are on their way."""
        fair = self._budget // (_SHARES * max(1, self._uploads))
        return max(LEAST_PART_BYTES, min(self._part_bytes, fair) // MIB * MIB)

    def take(self, size: int, *, entitled: Callable[[], bool]) -> PartMemory:
        """Room for one part. Waits until there is memory, or ``entitled`` says that nothing can be waited for.

        Raises: StoreDown (the kernel gives none), StoreFull (nor does the disk).
        """
        with self._changed:
            while (is_short := self._used + size > self._budget) and not entitled():
                self._changed.wait(1.0)
            if not is_short:
                self._used += size
                for spare in self._spare:
                    if len(spare) == size:
                        self._spare.remove(spare)
                        return spare
                self._drop_spare()
        try:
            with DiskFaults("make room for a part"):
                return PartMemory(size, folder=self._folder if is_short else None)
        except BaseException:
            if not is_short:
                with self._changed:
                    self._used -= size
                    self._changed.notify_all()
            raise

    def give_back(self, memory: PartMemory) -> None:
        """Done with it."""
        if not memory.is_memory:
            memory.close()
            return
        with self._changed:
            self._used -= len(memory)
            if self._uploads and self._used + len(memory) * (len(self._spare) + 1) <= self._budget:
                self._spare.append(memory)
            else:
                memory.close()
            self._changed.notify_all()

    def _drop_spare(self) -> None:
        for spare in self._spare:
            spare.close()
        self._spare.clear()
