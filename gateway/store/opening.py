"""Owns the choice of the store that the settings ask for."""

import hashlib
from typing import Literal

from gateway.settings import Settings
from gateway.store.base import BlobStore
from gateway.store.disk import DiskStore

type StoreKind = Literal["disk", "s3"]


def open_store(settings: Settings, *, kind: StoreKind | None = None) -> BlobStore:
    """The store, ready for use, or the other one of the settings by its ``kind``.

    Nothing is read, made or dialled yet: a store that is down does not stop a start.
    """
    if (kind or settings.storage.kind) == "s3":
        # Not with the module: a disk store has no use for an HTTP client.
        from gateway.store.s3_store import S3Store  # noqa: PLC0415

        return S3Store(
            settings.storage.s3,
            spool=settings.data_dir / "s3-uploads",
            buffer_bytes=settings.part_bytes,
        )
    disk = settings.storage.disk
    return DiskStore(settings.store_root, reserve_bytes=disk.reserve_bytes, fsync=disk.fsync)


def place_of(settings: Settings, kind: StoreKind) -> str:
    """A short name for where a store of these settings is, fit for a file name and told to nobody."""
    s3 = settings.storage.s3
    where = f"{s3.endpoint}/{s3.bucket}" if kind == "s3" else str(settings.store_root.absolute())
    return f"{kind}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"


def renew_keys(store: BlobStore, settings: Settings) -> None:
    """Let an open store go on with the keys of newly read settings. Whatever runs goes on."""
    if settings.storage.kind == "s3":
        from gateway.store.s3_store import S3Store  # noqa: PLC0415 - see above

        if isinstance(store, S3Store):
            store.take_keys(settings.storage.s3)


def lives_on_previous_keys(store: BlobStore) -> bool:
    """Whether an S3 store that has just been used was not let in with the keys that it should be."""
    from gateway.store.s3_store import S3Store  # noqa: PLC0415 - see above

    return isinstance(store, S3Store) and store.wire.uses_previous_keys
