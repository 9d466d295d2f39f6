"""Owns comparing database and store, both ways, down to the digests."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from gateway.errors import BlobMissing
from registry_core.registry import Registry
from registry_core.repo import images, journal

_CHUNK: Final = 1 << 20
type Kind = Literal["missing", "size", "digest", "orphan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong. An orphan is no damage: ``registry gc`` removes it in time."""

    kind: Kind
    key: str
    detail: str


def check(
    registry: Registry, *, digests: bool, repair: bool, progress: Callable[[str], None] = lambda _line: None
) -> Iterator[Fault]:
    """Every fault, as it is found. ``digests`` reads every byte; ``repair`` gives a missing key to stored bytes.

    Raises: StoreDown, DatabaseDown.
    """
    with registry.database.read() as db:
        expected = images.sizes_by_key(db)
        trashed = {one.key for one in journal.trashed(db)}
    read: set[str] = set()
    for key, size in sorted(expected.items()):
        digest = key.rpartition(".")[2]
        fault = _look(registry, key, size, repair=repair)
        if fault is None and digests and digest not in read:
            progress(key)
            read.add(digest)
            fault = _read(registry, key, digest)
        if fault is not None and _is_still_listed(registry, key):
            yield fault
    stored = registry.store.keys()
    for key in stored:
        if key not in expected and key not in trashed and not _is_still_listed(registry, key):
            yield Fault(kind="orphan", key=key, detail="no image refers to it")


def _look(registry: Registry, key: str, size: int, *, repair: bool) -> Fault | None:
    try:
        found = registry.store.stat(key)
    except BlobMissing:
        if repair and registry.store.link(sha256=key.rpartition(".")[2], key=key):
            return None
        return Fault(kind="missing", key=key, detail="the store has no such blob")
    if found.size != size:
        return Fault(kind="size", key=key, detail=f"{size} bytes expected, {found.size} found")
    return None


def _read(registry: Registry, key: str, digest: str) -> Fault | None:
    found = hashlib.sha256()
    try:
        with registry.store.open(key) as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except BlobMissing:
        return Fault(kind="missing", key=key, detail="the store has no such blob")
    if found.hexdigest() == digest:
        return None
    return Fault(kind="digest", key=key, detail=f"its bytes have the SHA-256 {found.hexdigest()}")


def _is_still_listed(registry: Registry, key: str) -> bool:
    """Pushes and deletes go on while we look."""
    with registry.database.read() as db:
        return images.key_in_use(db, key)
