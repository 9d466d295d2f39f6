"""Owns the proof that a migration moves everything once, and nothing that is damaged."""

import hashlib
import os
from pathlib import Path

import pytest

from gateway.errors import StoreFull
from gateway.store.base import BlobStat, BlobStore
from gateway.store.disk import DiskStore
from gateway.store.keys import blob_key
from gateway.store.migrate import Migration, migrate
from tests.support.memory_store import MemoryStore


def put(store: BlobStore, name: str, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    key = blob_key("alice", "tools", name, sha256)
    writer = store.create(os.urandom(8).hex(), size_hint=None)
    writer.write(data)
    store.place(writer.seal(), sha256=sha256, key=key)
    return key


def read(store: BlobStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


@pytest.fixture
def disk(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path, reserve_bytes=0, fsync=False)


def test_everything_is_copied_once_and_a_second_run_copies_nothing(disk: DiskStore) -> None:
    keys = [put(disk, "one", b"1" * 3_000_000), put(disk, "two", b"2"), put(disk, "same", b"2")]
    target = MemoryStore()
    first = migrate(disk, target)
    assert (first.copied, first.linked, first.damaged) == (2, 1, [])
    assert first.copied_bytes == 3_000_001
    assert [read(target, key) for key in keys] == [read(disk, key) for key in keys]
    assert migrate(disk, target) == Migration(present=3)
    back = DiskStore(disk._root / "back", reserve_bytes=0, fsync=False)
    assert migrate(target, back).copied == 2
    assert sorted(back.keys()) == sorted(keys)


def test_damaged_bytes_are_named_and_left_behind(disk: DiskStore) -> None:
    good = put(disk, "good", b"good")
    bad = put(disk, "bad", b"bad")
    (disk._root / "blobs" / bad).write_bytes(b"rot")
    target = MemoryStore()
    said: list[str] = []
    done = migrate(disk, target, tell=said.append)
    assert done.damaged == [bad]
    assert list(target.keys()) == [good]
    assert list(target.uploads()) == []
    assert any(bad in line for line in said)


def test_a_target_that_stores_something_else_is_found_out(disk: DiskStore) -> None:
    class Rotting(MemoryStore):
        def put_bytes(self, staged: str, offset: int, data: memoryview | bytes) -> None:
            super().put_bytes(staged, offset, bytes(len(data)))

    key = put(disk, "one", b"1" * 100)
    target = Rotting()
    assert migrate(disk, target).damaged == [key]
    assert list(target.keys()) == []


def test_what_comes_and_goes_meanwhile_comes_along(disk: DiskStore) -> None:
    first = put(disk, "first", b"first")
    late: list[str] = []

    class Busy(MemoryStore):
        def stat(self, key: str) -> BlobStat:
            if not late:
                late.append(put(disk, "late", b"late"))
                disk.delete(first)
            return super().stat(key)

    target = Busy()
    done = migrate(disk, target)
    assert done.vanished >= 1
    assert list(target.keys()) == late


def test_a_broken_run_leaves_no_upload_and_is_run_again(disk: DiskStore) -> None:
    key = put(disk, "one", b"1" * 5_000_000)
    target = MemoryStore()
    target.full = True
    with pytest.raises(StoreFull):
        migrate(disk, target)
    assert list(target.uploads()) == []
    target.full = False
    assert migrate(disk, target).copied == 1
    assert read(target, key) == b"1" * 5_000_000
