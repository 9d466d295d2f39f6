"""Owns the proof that a migration moves everything once, and nothing that is damaged."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from gateway.errors import StoreFull
from gateway.store.base import BlobStat, BlobStore
from gateway.store.disk import DiskStore
from gateway.store.keys import blob_key
from gateway.store.migrate import STAGED_PREFIX, Migration, migrate
from gateway.store.verified import Verified
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


def damage(store: DiskStore, key: str) -> None:
    """One other byte, in place: the size stays, and so do all the other names."""
    path = store._root / "blobs" / key
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_the_target_has_is_digested_and_replaced_if_it_is_damaged(
    disk: DiskStore, tmp_path: Path
) -> None:
    keys = [put(disk, "one", b"1" * 3_000_000), put(disk, "two", b"2"), put(disk, "same", b"2")]
    target = DiskStore(tmp_path / "target", reserve_bytes=0, fsync=False)
    migrate(disk, target)
    damage(target, keys[1])  # and so the other name of these bytes
    trusting = migrate(disk, target, trust_existing=True)
    assert (trusting.present, trusting.repaired) == (3, 0)
    said: list[str] = []
    done = migrate(disk, target, tell=said.append)
    assert (done.present, done.repaired, done.copied, done.damaged) == (1, 2, 0, [])
    assert any(line.startswith(f"{keys[1]}: damaged in the target") for line in said)
    assert [read(target, key) for key in keys] == [read(disk, key) for key in keys]
    assert migrate(disk, target) == Migration(present=3)


def test_what_is_damaged_on_both_sides_is_named(disk: DiskStore, tmp_path: Path) -> None:
    key = put(disk, "one", b"1" * 1000)
    target = DiskStore(tmp_path / "target", reserve_bytes=0, fsync=False)
    migrate(disk, target)
    damage(disk, key)
    assert migrate(disk, target) == Migration(present=1)  # nothing is copied over bytes that are right
    damage(target, key)
    assert migrate(disk, target).damaged == [key]
    assert list(target.uploads()) == []


def test_damaged_bytes_that_the_target_has_under_another_key_are_not_taken_for_right(
    disk: DiskStore, tmp_path: Path
) -> None:
    data = b"1" * 1000
    target = DiskStore(tmp_path / "target", reserve_bytes=0, fsync=False)
    damage(target, put(target, "other", data))
    key = put(disk, "one", data)
    assert migrate(disk, target).repaired == 1
    assert read(target, key) == data


def test_a_run_that_goes_on_reads_nothing_twice_until_it_has_come_to_its_end(
    disk: DiskStore, tmp_path: Path
) -> None:
    reads: list[str] = []

    class Watched(MemoryStore):
        def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
            reads.append(key)
            return super().open(key, offset=offset, length=length)

    file = tmp_path / "migrate" / "verified"
    first, second = put(disk, "one", b"1"), put(disk, "two", b"2")
    target = Watched()
    put(target, "one", b"1")

    class Broken(Exception):
        pass

    def break_off(line: str) -> None:
        if line.startswith(second):
            raise Broken

    with pytest.raises(Broken):
        migrate(disk, target, verified=Verified(file), tell=break_off)
    assert reads == [second]
    assert second in file.read_text()
    assert migrate(disk, target, verified=Verified(file)).present == 2
    assert reads == [second, first]
    assert not file.exists()
    assert migrate(disk, target, verified=Verified(file)).present == 2
    assert sorted(reads[2:]) == sorted([first, second])


def test_what_was_written_to_since_it_was_verified_is_read_again(tmp_path: Path) -> None:
    verified = Verified(tmp_path / "verified")
    verified.add("key", BlobStat(size=1, modified=1.0))
    again = Verified(tmp_path / "verified")
    assert again.knows("key", BlobStat(size=1, modified=1.0))
    assert not again.knows("key", BlobStat(size=1, modified=2.0))


def test_what_a_killed_run_left_is_removed_by_the_next_one_and_nothing_else_is(
    disk: DiskStore, tmp_path: Path
) -> None:
    put(disk, "one", b"1")
    target = DiskStore(tmp_path / "target", reserve_bytes=0, fsync=False)
    dead, foreign = f"{STAGED_PREFIX}{'a' * 32}", "b" * 32
    for name in (dead, foreign):
        writer = target.create(name, size_hint=None)
        writer.write(b"half")
        writer.abandon()
    alive = target.create(f"{STAGED_PREFIX}{'c' * 32}", size_hint=None)
    migrate(disk, target)
    assert {upload.staged for upload in target.uploads()} == {foreign, alive.staged}
    alive.discard()


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


def test_a_source_that_is_suddenly_empty_takes_nothing_from_the_target(
    disk: DiskStore, tmp_path: Path
) -> None:
    keys = [put(disk, name, name.encode()) for name in ("one", "two")]

    target = MemoryStore()
    migrate(disk, target)
    said: list[str] = []

    class Dying(DiskStore):
        asked = 0

        def keys(self) -> Iterator[str]:
            self.asked += 1
            return super().keys() if self.asked == 1 else iter(())

    dying = Dying(tmp_path, reserve_bytes=0, fsync=False)
    done = migrate(dying, target, tell=said.append)
    assert sorted(target.keys()) == sorted(keys)
    assert done.vanished == 0
    assert said == ["the source has no image any more; nothing is deleted in the target"]
