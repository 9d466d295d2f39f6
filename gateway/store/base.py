"""Owns what a store promises; ``disk.py`` and ``s3.py`` keep it, tests/contract/test_store.py defines it.

Every method blocks and is called from a worker thread, never from the event loop. A store may be used from many
threads and processes at once; one writer belongs to one thread at a time.

An upload goes: ``create`` → ``write`` … → ``seal`` (durable, still invisible) → ``place`` (visible under its key).
``place`` is idempotent, so a crash between the two is repaired by calling it again with the sealed name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStat:
    """``size`` in bytes; ``modified`` in epoch seconds."""

    size: int
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBlob:
    """Bytes that are durable in the staging area under ``staged`` but not visible yet."""

    staged: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedUpload:
    """An upload in progress (or left over): its staging name, bytes so far, last write, and whether it is held."""

    staged: str
    size: int
    modified: float
    held: bool


class BlobWriter(Protocol):
    """One file on its way in. Leaving without ``seal`` must end in ``discard``."""

    @property
    def staged(self) -> str:
        """The staging name."""
        ...

    def write(self, data: memoryview | bytes) -> None:
        """Append. Raises: StoreFull, StoreDown."""
        ...

    def seal(self) -> SealedBlob:
        """Make what was written durable and let go of it. Raises: StoreFull, StoreDown."""
        ...

    def discard(self) -> None:
        """Remove every trace. Never raises; may be called twice and after a failed write."""
        ...


class PartsWriter(Protocol):
    """One part of a file that arrives in several requests, written at its offset."""

    def write(self, data: memoryview | bytes) -> None:
        """Append after the last byte of this part. Raises: StoreFull, StoreDown."""
        ...

    def close(self, *, keep: bool) -> None:
        """Let go; with ``keep`` the bytes are durable. Without, they are as good as absent."""
        ...


class BlobStore(Protocol):
    """A content-addressed store: equal bytes are stored once, and each key is a name for them."""

    @property
    def waits_for_disk(self) -> bool:
        """Whether sealing a small file waits for more than the kernel's memory: a disk, a network."""
        ...

    def create(self, staged: str, *, size_hint: int | None) -> BlobWriter:
        """Begin a file. ``staged`` is a new, unguessable name ([0-9a-f-]); ``size_hint`` in bytes lets it
        refuse early what cannot fit.

        Raises: StoreFull, StoreDown.
        """
        ...

    def open_part(self, staged: str, *, offset: int, total_size: int) -> PartsWriter:
        """Begin or go on with a file that comes in parts, at ``offset`` bytes. Such a file outlives restarts."""
        ...

    def read_staged(self, staged: str, *, offset: int = 0) -> BinaryIO:
        """Read back a file that came in parts (to digest it). Raises: BlobMissing."""
        ...

    def seal_parts(self, staged: str, *, total_size: int) -> SealedBlob:
        """Seal a file whose parts are all there. Raises: BlobMissing, StoreCorrupt (size differs)."""
        ...

    def discard_staged(self, staged: str) -> None:
        """Remove an upload in progress, if it is there."""
        ...

    def place(self, sealed: SealedBlob, *, sha256: str, key: str) -> bool:
        """Make sealed bytes visible under ``key``, durably. Bytes already stored are not stored again.

        True if the key is new, False if it was there before (and must not be taken back when the core refuses).
        Safe to repeat: a sealed name that is gone is fine when the bytes are already stored.
        Raises: BlobMissing, StoreFull, StoreDown.
        """
        ...

    def replace(self, sealed: SealedBlob, *, sha256: str, key: str) -> None:
        """Make sealed bytes visible under ``key`` instead of stored ones that are damaged. Who calls this has compared
        the sealed bytes with the digest. Other keys get the new bytes too, on disk once they are linked again.

        Raises: BlobMissing, StoreFull, StoreDown.
        """
        ...

    def link(self, *, sha256: str, key: str) -> bool:
        """Give bytes that are already stored one more key. False if there are none with this digest."""
        ...

    def has(self, sha256: str) -> bool:
        """Whether bytes with this digest are stored."""
        ...

    def stat(self, key: str) -> BlobStat:
        """Raises: BlobMissing, StoreDown."""
        ...

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Read a blob or a range of it. A plain file (with ``fileno``) where the store has one: it can be sent
        by ``sendfile``. The position is at ``offset``. Raises: BlobMissing, StoreDown.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget the key; the bytes go when the last key is gone and ``collect`` runs. Absent keys are fine."""
        ...

    def keys(self) -> Iterator[str]:
        """Every key, in no order."""
        ...

    def collect(self, *, older_than_s: float, dry_run: bool) -> int:
        """Remove bytes that no key names and that are older than this; returns how many bytes that (would) free."""
        ...

    def uploads(self) -> Iterator[StagedUpload]:
        """The uploads in progress and left over."""
        ...

    def sweep(self, *, parts_older_than_s: float, prefix: str = "") -> int:
        """Remove what dead processes left behind, and parts nobody went on with; returns how many.

        With ``prefix`` only what has a staging name that begins so.
        """
        ...

    def check(self) -> str:
        """Prove by use that the store works; a short description. Raises: StoreDown, StoreFull."""
        ...

    def free_bytes(self) -> int | None:
        """Room for new uploads, None = not known."""
        ...


@runtime_checkable
class DistantStore(Protocol):
    """A store that can be away, and knows it before the first byte of an upload is taken."""

    def require_up(self, *, anew: bool = False) -> None:
        """Say at once whether an upload makes sense now. Without ``anew``, what was seen in the last seconds counts.

        Raises: StoreDown.
        """
        ...


@runtime_checkable
class DirectStore(Protocol):
    """What a store can do besides that clients reach by themselves, with links that expire.

    A file goes: ``begin_direct`` → ``sign_part`` for each part → ``seal_direct``, after which no link that was given
    out changes it any more → ``read_staged`` to verify it → ``place``. A file in one piece is a file of one part.
    ``discard_staged`` gives it up at any time.
    """

    @property
    def least_part_bytes(self) -> int:
        """No part but the last may be smaller."""
        ...

    @property
    def most_part_bytes(self) -> int:
        """No part may be larger."""
        ...

    def begin_direct(self, staged: str) -> None:
        """Begin a file that clients bring by themselves. Raises: StoreDown."""
        ...

    def sign_part(self, staged: str, *, number: int, sha256: str) -> str:
        """A link that takes part ``number`` (from 1) by PUT. With ``sha256`` the client must state this digest.

        Raises: BlobMissing (nothing begun under this name), StoreDown.
        """
        ...

    def seal_direct(
        self, staged: str, *, total_size: int, part_size: int, etags: Mapping[int, str]
    ) -> SealedBlob:
        """Put the parts together: durable, not visible, not changed by anybody from here on. Safe to repeat.

        ``etags`` are what the client was told for each part; it decides where a part was sent twice.
        Raises: BlobMissing (a part, or all of it), LengthMismatch, StoreDown.
        """
        ...

    def discard_staged(self, staged: str) -> None:
        """As of every store."""
        ...

    def sign_read(self, key: str, *, method: str, filename: str) -> str:
        """A link that reads a blob, whole or in ranges. Raises: BlobMissing, StoreDown."""
        ...
