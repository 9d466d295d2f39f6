"""Owns the disk store: one root folder, one file system, everything durable before it is confirmed.

What lies under the root:

``staging/``
    uploads on their way in, private (0700; files 0600). ``parts-NAME`` are files that come in several requests.
``objects/sha256/ab/DIGEST``
    the bytes, once.
``blobs/ENTITY/COLLECTION/CONTAINER:sha256.DIGEST``
    hard links to them: what an administrator sees, copies and counts.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from gateway.store.base import BlobStat, SealedBlob, StagedUpload
from gateway.store.disk_blobs import FOLDER_MODE, Blobs
from gateway.store.disk_staging import DiskPartsWriter, DiskWriter, Staging
from gateway.store.keys import check_digest
from gateway.store.syscalls import DiskFaults

_PROBE: Final = b"gateway check\n"


class DiskStore:
    """A ``BlobStore`` in a folder. Making one touches nothing; folders are made when they are first needed."""

    def __init__(self, root: Path, *, reserve_bytes: int, fsync: bool) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._staging = Staging(root / "staging", reserve_bytes=reserve_bytes, fsync=fsync)
        self._blobs = Blobs(root, fsync=fsync)

    @property
    def waits_for_disk(self) -> bool:
        return self._staging.fsync

    def create(self, staged: str, *, size_hint: int | None) -> DiskWriter:
        """Begin a file; space for ``size_hint`` is taken at once. Raises: StoreFull, StoreDown."""
        return self._staging.create(staged, size_hint=size_hint)

    def open_part(self, staged: str, *, offset: int, total_size: int) -> DiskPartsWriter:
        """Begin or go on with a file that comes in parts. Raises: StoreFull, StoreDown."""
        return self._staging.open_part(staged, offset=offset, total_size=total_size)

    def read_staged(self, staged: str, *, offset: int = 0) -> BinaryIO:
        """Read back a file that came in parts. Raises: BlobMissing, StoreDown."""
        return self._staging.read(staged, offset=offset)

    def seal_parts(self, staged: str, *, total_size: int) -> SealedBlob:
        """Seal a file whose parts are all there. Raises: BlobMissing, StoreCorrupt, StoreDown."""
        return self._staging.seal_parts(staged, total_size=total_size)

    def discard_staged(self, staged: str) -> None:
        """Remove an upload in progress, if it is there."""
        self._staging.discard(staged)

    def place(self, sealed: SealedBlob, *, sha256: str, key: str) -> bool:
        """Make sealed bytes visible under ``key``; whether the key is new. Safe to repeat after any failure.

        Raises: BlobMissing, StoreFull, StoreDown.
        """
        check_digest(sha256, key=key)
        paths = self._staging.paths(sealed.staged)
        with DiskFaults(f"place {key}"):
            new = self._blobs.place(paths, size=sealed.size, sha256=sha256, key=key)
        self._staging.discard(sealed.staged)
        return new

    def replace(self, sealed: SealedBlob, *, sha256: str, key: str) -> None:
        """Let sealed bytes take the place of damaged ones. Raises: BlobMissing, StoreFull, StoreDown."""
        check_digest(sha256, key=key)
        paths = self._staging.paths(sealed.staged)
        with DiskFaults(f"replace {key}"):
            self._blobs.place(paths, size=sealed.size, sha256=sha256, key=key, replaces=True)
        self._staging.discard(sealed.staged)

    def link(self, *, sha256: str, key: str) -> bool:
        """Give stored bytes one more key; False if there are none. Raises: StoreFull, StoreDown."""
        check_digest(sha256, key=key)
        with DiskFaults(f"link {key}"):
            return self._blobs.link(sha256=sha256, key=key)

    def has(self, sha256: str) -> bool:
        """Raises: StoreDown."""
        check_digest(sha256)
        with DiskFaults("look for bytes"):
            return self._blobs.has(sha256)

    def stat(self, key: str) -> BlobStat:
        """Raises: BlobMissing, StoreDown."""
        with DiskFaults(f"stat {key}"):
            return self._blobs.stat(key)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        """A plain, unbuffered file at ``offset``. Raises: BlobMissing, StoreDown."""
        with DiskFaults(f"open {key}"):
            return self._blobs.open(key, offset=offset, length=length)

    def delete(self, key: str) -> None:
        """Forget the key, and folders that it leaves empty. Raises: StoreDown."""
        with DiskFaults(f"delete {key}"):
            self._blobs.delete(key)

    def keys(self) -> Iterator[str]:
        """Raises: StoreDown."""
        with DiskFaults("list keys"):
            yield from self._blobs.keys()

    def collect(self, *, older_than_s: float, dry_run: bool) -> int:
        """Remove bytes that no key names; returns how many bytes that (would) free. Raises: StoreDown."""
        with DiskFaults("collect"):
            return self._blobs.collect(older_than_s=older_than_s, dry_run=dry_run)

    def uploads(self) -> Iterator[StagedUpload]:
        """Raises: StoreDown."""
        return self._staging.uploads()

    def sweep(self, *, parts_older_than_s: float, prefix: str = "") -> int:
        """Remove what dead processes left behind; returns how many files. Raises: StoreDown."""
        return self._staging.sweep(parts_older_than_s=parts_older_than_s, prefix=prefix)

    def check(self) -> str:
        """Write, flush, link and remove a probe the way an upload goes. Raises: StoreDown, StoreFull."""
        probe = f"c0{secrets.token_hex(15)}"
        shared = [folder / f".check-{probe}" for folder in (self._blobs.objects, self._blobs.names)]
        writer = self.create(probe, size_hint=None)
        try:
            writer.write(_PROBE)
            writer.seal()
            with DiskFaults("link within the store (is it one file system, and does it have hard links?)"):
                for path in shared:
                    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                    os.link(self._staging.paths(probe)[0], path)
        finally:
            writer.discard()
            for path in shared:
                path.unlink(missing_ok=True)
        free = self.free_bytes()
        return f"disk store at {self._root}: writable, durable, {(free or 0) / 2**30:.1f} GiB free for images"

    def free_bytes(self) -> int | None:
        """Room for new uploads, beyond the reserve; None before the root folder exists."""
        try:
            room = os.statvfs(self._root)
        except OSError:
            return None
        return max(0, room.f_bavail * room.f_frsize - self._reserve_bytes)
