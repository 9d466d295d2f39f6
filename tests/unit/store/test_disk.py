"""Owns what only the disk store promises: its layout, its modes, its space, its faults, its locks."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BlobMissing, StoreDown, StoreFull
from gateway.settings import Settings
from gateway.store import syscalls
from gateway.store.disk import DiskStore
from gateway.store.keys import blob_key
from gateway.store.opening import open_store

MIB = 1 << 20
DATA = b"image" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
KEY = blob_key("alice", "tools", "fold", SHA)
REPO = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> DiskStore:
    return DiskStore(root, reserve_bytes=0, fsync=True)


def put(store: DiskStore, key: str = KEY) -> bool:
    writer = store.create(os.urandom(8).hex(), size_hint=len(DATA))
    writer.write(DATA)
    return store.place(writer.seal(), sha256=SHA, key=key)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def failing(number: int) -> Callable[..., Any]:
    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Volume:
    """A file system of a fixed size, as the calls that ask for room see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, capacity: int) -> None:
        self.folder = folder
        self.capacity = capacity
        monkeypatch.setattr(os, "fstatvfs", lambda _fd: self.room())

    def room(self) -> os.statvfs_result:
        used = sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*") if path.is_file())
        free = self.capacity - used
        return os.statvfs_result((1, 1, self.capacity, free, free, 0, 0, 0, 0, 255))


def test_making_a_store_touches_nothing(root: Path) -> None:
    settings = Settings.model_validate({"server": {"data_dir": root}})
    store = open_store(settings)
    assert not root.exists()
    assert list(store.keys()) == []
    assert list(store.uploads()) == []
    assert store.sweep(parts_older_than_s=0) == 0
    assert store.collect(older_than_s=0, dry_run=False) == 0


def test_an_administrator_sees_keys_as_plain_files_and_staging_stays_private(
    root: Path, store: DiskStore
) -> None:
    writer = store.create("ab", size_hint=None)
    assert mode(root / "staging") == 0o700
    assert mode(root / "staging" / "ab") == 0o600
    writer.discard()
    put(store)
    seen = root / "blobs" / "alice" / "tools" / f"fold:sha256.{SHA}"
    assert seen.read_bytes() == DATA
    assert mode(seen) == 0o640
    assert seen.samefile(root / "objects" / "sha256" / SHA[:2] / SHA)
    assert all(mode(path) == 0o750 for path in (root / "blobs").rglob("*") if path.is_dir())


def test_the_last_key_takes_its_folders_with_it(root: Path, store: DiskStore) -> None:
    put(store)
    put(store, blob_key("alice", "tools", "other", SHA))
    store.delete(KEY)
    assert (root / "blobs" / "alice" / "tools").is_dir()
    store.delete(blob_key("alice", "tools", "other", SHA))
    assert list((root / "blobs").iterdir()) == []
    assert put(store)


def test_a_read_is_a_plain_file_that_sendfile_takes(store: DiskStore) -> None:
    put(store)
    with store.open(KEY, offset=10, length=5) as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 10
        buffer = bytearray(100)
        assert file.readinto(buffer) == 5  # type: ignore[attr-defined]
        assert file.readinto(buffer) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("link_at", ["entity", "collection", "name"])
def test_a_symbolic_link_in_the_tree_leads_nowhere(
    root: Path, store: DiskStore, tmp_path: Path, link_at: str
) -> None:
    put(store)
    outside = tmp_path / "outside"
    name = f"fold:sha256.{SHA}"
    secret = {"entity": outside / "tools" / name, "collection": outside / name, "name": outside}[link_at]
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text("secret")
    entity = root / "blobs" / "alice"
    spot = {"entity": entity, "collection": entity / "tools", "name": entity / "tools" / name}[link_at]
    spot.rename(tmp_path / "aside")
    spot.symlink_to(outside)
    with pytest.raises(BlobMissing):
        store.open(KEY)
    if link_at != "name":
        with pytest.raises(BlobMissing):
            store.stat(KEY)
        with pytest.raises(StoreDown):
            put(store)
    store.delete(KEY)
    assert secret.read_text() == "secret"
    assert list(store.keys()) == []


def test_an_administrators_own_files_are_no_keys(root: Path, store: DiskStore) -> None:
    put(store)
    (root / "blobs" / "README").write_text("mine")
    (root / "blobs" / "alice" / "tools" / "notes").write_text("mine")
    assert list(store.keys()) == [KEY]


def test_damaged_bytes_are_healed_by_the_next_upload(root: Path, store: DiskStore) -> None:
    put(store)
    stored = root / "objects" / "sha256" / SHA[:2] / SHA
    stored.write_bytes(b"cut")
    assert put(store) is False
    with store.open(KEY) as file:
        assert file.read() == DATA
    assert stored.samefile(root / "blobs" / KEY)


def test_a_key_whose_object_was_lost_brings_it_back(root: Path, store: DiskStore) -> None:
    put(store)
    (root / "objects" / "sha256" / SHA[:2] / SHA).unlink()
    writer = store.create("ab", size_hint=None)
    sealed = writer.seal()
    writer.discard()
    assert store.place(sealed, sha256=SHA, key=KEY) is False
    assert store.has(SHA)


def test_two_uploads_that_do_not_fit_together_are_not_both_admitted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Volume(monkeypatch, root, capacity=50 * MIB)
    store = DiskStore(root, reserve_bytes=10 * MIB, fsync=True)
    first = store.create("aa", size_hint=24 * MIB)
    with pytest.raises(StoreFull):
        store.create("bb", size_hint=24 * MIB)
    assert [upload.staged for upload in store.uploads()] == ["aa"]
    first.write(b"x" * 1000)
    first.seal()
    assert (root / "staging" / "aa").stat().st_blocks * 512 < MIB, "what was reserved in vain is given back"
    second = store.create("bb", size_hint=24 * MIB)
    second.discard()
    first.discard()


def test_parts_reserve_their_whole_file_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Volume(monkeypatch, root, capacity=50 * MIB)
    store = DiskStore(root, reserve_bytes=10 * MIB, fsync=True)
    for number in range(3):
        part = store.open_part("aa", offset=number * 8 * MIB, total_size=24 * MIB)
        part.write(b"x" * 100)
        part.close(keep=True)
    with pytest.raises(StoreFull):
        store.open_part("bb", offset=0, total_size=24 * MIB)
    assert [upload.size for upload in store.uploads() if upload.staged == "aa"] == [16 * MIB + 100]


def test_an_upload_of_unknown_size_stops_at_the_reserve(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Volume(monkeypatch, root, capacity=110 * MIB)
    store = DiskStore(root, reserve_bytes=10 * MIB, fsync=False)
    writer = store.create("aa", size_hint=None)
    for _ in range(12):
        writer.write(bytes(8 * MIB))
    with pytest.raises(StoreFull):
        writer.write(bytes(8 * MIB))
    writer.discard()
    assert list(store.uploads()) == []


def test_an_upload_that_said_its_size_may_use_the_room_to_the_last_byte(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Volume(monkeypatch, root, capacity=33 * MIB)
    store = DiskStore(root, reserve_bytes=0, fsync=False)
    writer = store.create("aa", size_hint=32 * MIB)
    for _ in range(4):
        writer.write(bytes(8 * MIB))
    assert writer.seal().size == 32 * MIB
    writer.discard()


FAULTS = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EFBIG: StoreFull,
    errno.EIO: StoreDown,
    errno.EROFS: StoreDown,
    errno.EACCES: StoreDown,
}


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("call", ["open", "write", "ftruncate", "fsync", "link"])
def test_every_fault_of_the_disk_has_its_name_and_leaves_nothing(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    put(store, blob_key("bob", "tools", "fold", SHA))
    store.delete(blob_key("bob", "tools", "fold", SHA))
    store.collect(older_than_s=0, dry_run=False)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, failing(number))
        with pytest.raises(FAULTS[number]):
            put(store)
    store.discard_staged(*[upload.staged for upload in store.uploads()] or ["00"])
    assert list(store.uploads()) == []
    assert list(store.keys()) == []
    assert put(store)


def test_short_writes_are_completed(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, memoryview(data)[:777]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, memoryview(data)[:777], at))
    put(store)
    with store.open(KEY) as file:
        assert file.read() == DATA
    part = store.open_part("ab", offset=0, total_size=len(DATA))
    part.write(DATA)
    part.close(keep=True)
    with store.read_staged("ab") as file:
        assert file.read() == DATA


def test_a_file_system_that_cannot_reserve_still_stores(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_call", lambda *_names: None)
    writer = store.create("ab", size_hint=32 * MIB)
    writer.write(bytes(9 * MIB))
    assert writer.seal().size == 9 * MIB
    writer.discard()


def test_the_reserve_counts_in_the_check(root: Path) -> None:
    with pytest.raises(StoreFull):
        DiskStore(root, reserve_bytes=1 << 60, fsync=True).check()
    assert DiskStore(root, reserve_bytes=1 << 60, fsync=True).free_bytes() == 0


def test_a_root_that_cannot_be_made_is_a_store_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreDown):
        DiskStore(tmp_path / "file" / "root", reserve_bytes=0, fsync=True).check()


def test_no_descriptor_stays_open(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    before = open_descriptors()
    for _ in range(5):
        put(store)
        store.create("ab", size_hint=16 * MIB).discard()
        writer = store.create("ab", size_hint=None)
        writer.seal()
        writer.discard()
        store.open_part("cd", offset=0, total_size=3).close(keep=False)
        store.sweep(parts_older_than_s=0)
        with monkeypatch.context() as broken:
            broken.setattr(os, "link", failing(errno.EIO))
            with pytest.raises(StoreDown):
                put(store, blob_key("alice", "tools", "other", SHA))
        for upload in list(store.uploads()):
            store.discard_staged(upload.staged)
        store.stat(KEY)
        store.link(sha256=SHA, key=blob_key("bob", "tools", "fold", SHA))
        store.delete(blob_key("bob", "tools", "fold", SHA))
    assert open_descriptors() == before


def test_a_kill_between_any_two_system_calls_loses_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crash_points", str(tmp_path)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300
