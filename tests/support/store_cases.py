"""Owns the stores that the contract suite runs on, and what each kind must do to be treated alike."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from gateway.store.base import BlobStore
from gateway.store.disk import DiskStore
from gateway.store.s3_store import S3Store
from tests.support.memory_store import MemoryStore
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed


def name() -> str:
    """A new staging name."""
    return os.urandom(8).hex()


class Case(Protocol):
    """A store under test, and what only its kind knows how to do."""

    @property
    def store(self) -> BlobStore:
        """The store."""
        ...

    def reopened(self) -> BlobStore:
        """The same data, as another process sees it."""
        ...

    def leave_behind(self, staged: str, *, parts: bool = False) -> None:
        """An upload of some bytes whose process is killed."""
        ...


class MemoryCase:
    def __init__(self) -> None:
        self.store: Final = MemoryStore()

    def reopened(self) -> MemoryStore:
        return self.store

    def leave_behind(self, staged: str, *, parts: bool = False) -> None:
        if parts:
            self.store.open_part(staged, offset=0, total_size=3).write(b"abc")
        else:
            self.store.create(staged, size_hint=None).write(b"abc")
        self.store.crash()


LEAVE_BEHIND = """
import os
{opening}
if {parts}:
    writer = store.open_part({staged!r}, offset=0, total_size=3)
else:
    writer = store.create({staged!r}, size_hint=None)
writer.write(b"abc")
os.kill(os.getpid(), 9)
"""


class DiskCase:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: Final = self.reopened()

    def reopened(self) -> DiskStore:
        return DiskStore(self.root, reserve_bytes=0, fsync=True)

    def leave_behind(self, staged: str, *, parts: bool = False) -> None:
        opening = (
            "from pathlib import Path\nfrom gateway.store.disk import DiskStore\n"
            f"store = DiskStore(Path({str(self.root)!r}), reserve_bytes=0, fsync=True)"
        )
        code = LEAVE_BEHIND.format(opening=opening, parts=parts, staged=staged)
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


class S3Case:
    def __init__(self, server: Seaweed, folder: Path) -> None:
        self.folder = folder
        self.settings = server.settings(bucket=f"images-{name()}")
        self.opened: list[S3Store] = []
        self.store: Final = self.reopened()

    def reopened(self) -> S3Store:
        store = S3Store(self.settings, spool=self.folder / "spool", buffer_bytes=24 << 20)
        self.opened.append(store)
        return store

    def leave_behind(self, staged: str, *, parts: bool = False) -> None:
        plain = {"endpoint": self.settings.endpoint, "bucket": self.settings.bucket}
        plain |= {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        opening = (
            "from pathlib import Path\nfrom gateway.settings import S3\n"
            "from gateway.store.s3_store import S3Store\n"
            f"store = S3Store(S3.model_validate({plain!r}), spool=Path({str(self.folder / 'spool')!r}),"
            " buffer_bytes=24 << 20)"
        )
        code = LEAVE_BEHIND.format(opening=opening, parts=parts, staged=staged)
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
