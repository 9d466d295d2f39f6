"""Owns whole-file digests of files that come in several requests.

A digest is carried along in memory while the requests come in order through one process (real clients send them so);
otherwise the missing stretch is read back once at the end.
"""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

READ_BYTES: Final = 1024 * 1024
MOST_RUNNING: Final = 256  # uploads whose digest is carried along in one process


class RunningHash(Protocol):
    """What hashlib's objects are."""

    def update(self, data: memoryview | bytes, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "RunningHash": ...


@dataclass(slots=True)
class RunningDigest:
    """The SHA-256 of the first ``offset`` bytes of a file."""

    digest: RunningHash
    offset: int = 0

    @classmethod
    def new(cls) -> "RunningDigest":
        """Of nothing yet."""
        return cls(hashlib.sha256())

    def copy(self) -> "RunningDigest":
        """One that goes on by itself, for bytes that may turn out to be wrong."""
        return RunningDigest(self.digest.copy(), self.offset)


class StagedReader(Protocol):
    """The part of a ``BlobStore`` that is needed here."""

    def read_staged(self, staged: str, *, offset: int = 0) -> BinaryIO:
        """Read back a file that came in parts."""
        ...


class RunningDigests:
    """The digests that this process carries along, the newest of them."""

    def __init__(self) -> None:
        self._running: dict[str, RunningDigest] = {}

    def take(self, upload: str, offset: int) -> RunningDigest | None:
        """The digest of the first ``offset`` bytes, to go on with; None when it is not known here."""
        if offset == 0:
            self._running.pop(upload, None)
            return RunningDigest.new()
        running = self._running.get(upload)
        if running is None or running.offset != offset:
            return None
        return self._running.pop(upload)

    def keep(self, upload: str, running: RunningDigest) -> None:
        """For the next request."""
        self._running[upload] = running
        while len(self._running) > MOST_RUNNING:
            self._running.pop(next(iter(self._running)))

    def forget(self, upload: str) -> None:
        """The upload is over."""
        self._running.pop(upload, None)

    def knows(self, upload: str, offset: int) -> bool:
        """Whether ``take`` would have it."""
        running = self._running.get(upload)
        return running is not None and running.offset == offset

    def finish(self, store: StagedReader, staged: str, *, size: int) -> str:
        """The whole file's SHA-256 in hex; what is not known of it is read back. Blocks. Raises: BlobMissing."""
        running = self._running.pop(staged, None) or RunningDigest.new()
        if running.offset < size:
            with store.read_staged(staged, offset=running.offset) as file:
                while data := file.read(READ_BYTES):
                    running.digest.update(data)
        return running.digest.hexdigest()
