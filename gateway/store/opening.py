"""Owns the choice of the store that the settings ask for."""

from gateway.settings import Settings
from gateway.store.base import BlobStore
from gateway.store.disk import DiskStore


def open_store(settings: Settings) -> BlobStore:
    """The store, ready for use. Nothing is read, made or dialled yet: a store that is down does not stop a start."""
    disk = settings.storage.disk
    return DiskStore(settings.store_root, reserve_bytes=disk.reserve_bytes, fsync=disk.fsync)
