"""Tests of a route's folder: files appear whole, under random names, reachable for whom the access bits name."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from gateway.errors import BlobMissing, StoreDown, StoreFull
from gateway.upload.route_store import INCOMING, RouteStore, new_name


def _store(
    folder: Path, *, levels: tuple[int, ...] = (1, 2), access: int = 0o600, reserve: int = 0
) -> RouteStore:
    return RouteStore(folder, levels=levels, access=access, reserve_bytes=reserve, fsync=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_seen_only_when_it_is_whole(tmp_path: Path) -> None:
    store, name = _store(tmp_path / "s"), new_name()
    writer = store.create(name, size_hint=None)
    writer.write(b"half")
    assert _files(tmp_path) == [tmp_path / "s" / INCOMING / name]
    assert _mode(tmp_path / "s" / INCOMING) == 0o700
    writer.write(memoryview(b" and half"))
    assert writer.seal().size == 13
    assert _files(tmp_path) == [Path(store.path_of(name))]
    assert Path(store.path_of(name)).read_bytes() == b"half and half"


def test_sub_folders_come_from_the_end_of_the_name(tmp_path: Path) -> None:
    store = _store(tmp_path, levels=(1, 2))
    assert (
        Path(store.path_of("00112233445566778899aabbccddeeff"))
        == tmp_path / "f/ef/00112233445566778899aabbccddeeff"
    )
    assert Path(_store(tmp_path, levels=()).path_of("abc")) == tmp_path / "abc"


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(_store(Path("rel"), levels=()).path_of("abc")) == tmp_path / "rel/abc"


@pytest.mark.parametrize(
    ("access", "folder"), [(0o600, 0o700), (0o640, 0o710), (0o660, 0o730), (0o666, 0o733), (0o644, 0o711)]
)
def test_access_bits_are_the_routes_whatever_the_umask(tmp_path: Path, access: int, folder: int) -> None:
    store, name = _store(tmp_path / "s", access=access), new_name()
    before = os.umask(0o077)
    try:
        store.create(name, size_hint=0).seal()
    finally:
        os.umask(before)
    path = Path(store.path_of(name))
    assert _mode(path) == access
    assert [_mode(above) for above in list(path.parents)[:3]] == [folder] * 3


def test_a_folder_of_the_administrator_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir(mode=0o750)
    _store(folder, access=0o666).create(new_name(), size_hint=None).seal()
    assert _mode(folder) == 0o750


def test_a_discarded_file_leaves_nothing_before_and_after_it_is_sealed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for seals in (False, True):
        writer = store.create(new_name(), size_hint=None)
        writer.write(b"x")
        if seals:
            writer.seal()
        writer.discard()
        writer.discard()
        assert _files(tmp_path) == []


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    store, name = _store(tmp_path), new_name()
    store.create(name, size_hint=None).seal()
    again = store.create(name, size_hint=None)
    again.write(b"EVIL")
    with pytest.raises(StoreDown):
        again.seal()
    again.discard()
    assert Path(store.path_of(name)).read_bytes() == b""


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "x", "A" * 32, "0" * 200, "a\0"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BlobMissing):
        _store(tmp_path).create(name, size_hint=None)


def test_names_cannot_be_guessed() -> None:
    names = {new_name() for _ in range(1000)}
    assert len(names) == 1000
    assert {len(name) for name in names} == {32}


def test_a_full_disk_is_told_before_the_file_is_there(tmp_path: Path) -> None:
    store = _store(tmp_path, reserve=1 << 60)
    with pytest.raises(StoreFull):
        store.create(new_name(), size_hint=1)
    assert _files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreDown):
        _store(tmp_path / "file" / "s").create(new_name(), size_hint=None)


def test_a_sweep_takes_what_a_dead_process_left_and_nothing_else(tmp_path: Path) -> None:
    store = _store(tmp_path)
    living = store.create(new_name(), size_hint=None)
    done = new_name()
    store.create(done, size_hint=None).seal()
    dead = tmp_path / INCOMING / new_name()
    dead.write_bytes(b"57344 bytes, say")
    assert store.sweep(older_than_s=0) == 1
    assert not dead.exists()
    assert Path(store.path_of(done)).exists()
    living.write(b"x")
    living.seal()
    assert Path(store.path_of(living.staged)).read_bytes() == b"x"


def test_a_sweep_takes_old_files_that_no_backend_fetched(tmp_path: Path) -> None:
    store = _store(tmp_path)
    names = [new_name() for _ in range(3)]
    for name in names:
        store.create(name, size_hint=None).seal()
    old = time.time() - 7200
    os.utime(Path(store.path_of(names[0])), (old, old))
    foreign = [tmp_path / "README", tmp_path / "1" / "22" / "notes"]
    foreign[1].parent.mkdir(parents=True)
    for path in foreign:
        path.write_text("")
        os.utime(path, (old, old))
    assert store.sweep(older_than_s=3600) == 1
    assert not Path(store.path_of(names[0])).exists()
    assert all(
        path.exists() for path in (*foreign, Path(store.path_of(names[1])), Path(store.path_of(names[2])))
    )


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store, name = RouteStore(tmp_path, levels=(2,), access=0o600, reserve_bytes=0, fsync=False), new_name()
    writer = store.create(name, size_hint=None)
    writer.write(b"x")
    writer.seal()
    assert _files(tmp_path) == [Path(store.path_of(name))]


def test_removing_what_the_backend_took_is_fine(tmp_path: Path) -> None:
    store, name = _store(tmp_path), new_name()
    store.create(name, size_hint=None).seal()
    Path(store.path_of(name)).unlink()
    store.remove(name)
