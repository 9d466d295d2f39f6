"""Owns the move of all blobs from one store to another: while both serve, again and again, verified by digest.

A run that is broken off is simply run again: what the target has under its key is not copied a second time. The
source is only read. Passes are made until one finds nothing new, so that what came in meanwhile comes along.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import BlobMissing, StoreCorrupt
from gateway.store.base import BlobStore
from gateway.store.keys import digest_of

_PIECE_BYTES: Final = 1 << 20
_PASSES: Final = 100  # a registry that takes images faster than they can be copied is not caught up with


@dataclass(slots=True, kw_only=True)
class Migration:
    """What a run did. ``damaged`` are keys whose bytes, here or there, are not what their digest says."""

    copied: int = 0
    linked: int = 0
    present: int = 0
    vanished: int = 0
    copied_bytes: int = 0
    damaged: list[str] = field(default_factory=list)


def migrate(
    source: BlobStore,
    target: BlobStore,
    *,
    read_back: bool = True,
    tell: Callable[[str], None] = lambda _line: None,
) -> Migration:
    """Copy every key of ``source`` that ``target`` has not. With ``read_back`` each copy is read and digested too.

    Raises: StoreFull, StoreDown (run it again when that is mended).
    """
    done = Migration()
    seen: set[str] = set()
    for _ in range(_PASSES):
        fresh = [key for key in source.keys() if key not in seen]  # noqa: SIM118 - a store is no dict
        if not fresh:
            break
        for key in fresh:
            seen.add(key)
            _move(source, target, key, done, read_back=read_back, tell=tell)
    _forget_vanished(source, target, seen, done)
    return done


def _move(
    source: BlobStore,
    target: BlobStore,
    key: str,
    done: Migration,
    *,
    read_back: bool,
    tell: Callable[[str], None],
) -> None:
    try:
        size = source.stat(key).size
        if _has(target, key, size):
            done.present += 1
            return
        if target.link(sha256=digest_of(key), key=key) and _has(target, key, size):
            done.linked += 1
        else:
            _copy(source, target, key, size, read_back=read_back)
            done.copied += 1
            done.copied_bytes += size
        tell(f"{key}: {size} bytes")
    except BlobMissing:
        done.vanished += 1  # deleted while we came to it
    except StoreCorrupt as exc:
        done.damaged.append(key)
        tell(f"{key}: {exc}")


def _has(store: BlobStore, key: str, size: int) -> bool:
    try:
        return store.stat(key).size == size
    except BlobMissing:
        return False


def _copy(source: BlobStore, target: BlobStore, key: str, size: int, *, read_back: bool) -> None:
    """Raises: BlobMissing, StoreCorrupt, StoreFull, StoreDown."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    writer = target.create(secrets.token_hex(16), size_hint=size)
    try:
        with source.open(key) as file:
            # Every store's file has it, although the type of files in general does not say so.
            while count := file.readinto(buffer):  # type: ignore[attr-defined]
                digest.update(buffer[:count])
                writer.write(buffer[:count])
        if digest.hexdigest() != digest_of(key):
            raise StoreCorrupt(detail=f"{key} in the source: its digest is {digest.hexdigest()}")
        new = target.place(writer.seal(), sha256=digest_of(key), key=key)
    finally:
        writer.discard()
    if read_back and _digest(target, key, buffer) != digest_of(key):
        if new:
            target.delete(key)
        raise StoreCorrupt(detail=f"{key} in the target is not what was sent")


def _digest(store: BlobStore, key: str, buffer: memoryview) -> str:
    digest = hashlib.sha256()
    with store.open(key) as file:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(buffer[:count])
    return digest.hexdigest()


def _forget_vanished(source: BlobStore, target: BlobStore, seen: set[str], done: Migration) -> None:
    """What was deleted in the source after it was copied is deleted in the target too."""
    for key in seen - set(source.keys()):
        target.delete(key)
        done.vanished += 1
