"""Owns the choice of the store that the settings ask for."""

from gateway.settings import Settings
from gateway.store.base import BlobStore
from gateway.store.disk import DiskStore


def open_store(settings: Settings) -> BlobStore:
    """The store, ready for use. Nothing is read, made or dialled yet: a store that is down does not stop a start."""
    if settings.storage.kind == "s3":
        # Not with the module: a disk store has no use for an HTTP client.
        from gateway.store.s3_store import S3Store  # noqa: PLC0415

        return S3Store(
            settings.storage.s3,
            spool=settings.data_dir / "s3-uploads",
            # The other half is for what comes from the clients (gateway/net).
            buffer_bytes=settings.limits.buffer_bytes // 2,
        )
    disk = settings.storage.disk
    return DiskStore(settings.store_root, reserve_bytes=disk.reserve_bytes, fsync=disk.fsync)
