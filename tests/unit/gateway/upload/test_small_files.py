"""Tests of small files of a route: put at once, without a name until they are whole, on whatever file system."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreDown, StoreFull
from gateway.upload.route_store import INCOMING, RouteStore, new_name


def _store(folder: Path, *, access: int = 0o600, reserve: int = 0, fsync: bool = True) -> RouteStore:
    return RouteStore(folder, levels=(1, 2), access=access, reserve_bytes=reserve, fsync=fsync)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _refuse_nameless(monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    """No file without a name can be opened; the folders where one was wanted."""
    asked: list[str] = []
    opens = os.open

    def refuse(path: str, flags: int, *more: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            asked.append(path)
            raise OSError(code, os.strerror(code))
        return opens(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    return asked


def _refuse_naming(monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    """No descriptor can be linked to a name; the names that were wanted."""
    asked: list[str] = []
    link = os.link

    def refuse(source: str, target: str, **options: Any) -> None:
        if source.startswith("/proc/"):
            asked.append(target)
            raise OSError(code, os.strerror(code))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    return asked


def _assert_is_put(store: RouteStore, folder: Path, data: bytes) -> None:
    name = new_name()
    before, known = _descriptors(), set(_files(folder))
    assert store.put(name, data).size == len(data)
    path = Path(store.path_of(name))
    assert set(_files(folder)) - known == {path}
    assert path.read_bytes() == data
    assert _descriptors() == before


@pytest.mark.parametrize("data", [b"", b"hello", bytes(64 * 1024)])
def test_a_small_file_is_put_where_its_name_says_and_nowhere_else(tmp_path: Path, data: bytes) -> None:
    store = _store(tmp_path / "deep" / "s")
    _assert_is_put(store, tmp_path, data)
    assert not (tmp_path / "deep" / "s" / INCOMING).exists()


@pytest.mark.parametrize(("access", "folder"), [(0o600, 0o700), (0o640, 0o710), (0o666, 0o733)])
def test_access_bits_are_the_routes_whatever_the_umask(tmp_path: Path, access: int, folder: int) -> None:
    store, name = _store(tmp_path / "s", access=access), new_name()
    before = os.umask(0o077)
    try:
        store.put(name, b"x")
    finally:
        os.umask(before)
    path = Path(store.path_of(name))
    assert stat.S_IMODE(path.stat().st_mode) == access
    assert [stat.S_IMODE(above.stat().st_mode) for above in list(path.parents)[:3]] == [folder] * 3


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_a_file_system_without_nameless_files_will_do_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    asked = _refuse_nameless(monkeypatch, code)
    store = _store(tmp_path / "s")
    (tmp_path / "s").mkdir()
    for _ in range(2):
        _assert_is_put(store, tmp_path, b"hello")
    assert len(asked) == 1


@pytest.mark.parametrize("code", [errno.EACCES, errno.EXDEV, errno.EPERM, errno.ENOSYS])
def test_a_sandbox_that_lets_no_descriptor_be_named_will_do_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    asked = _refuse_naming(monkeypatch, code)
    store = _store(tmp_path / "s")
    for _ in range(2):
        _assert_is_put(store, tmp_path, b"hello")
    assert len(asked) == 1


def test_a_sandbox_without_proc_will_do_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _refuse_naming(monkeypatch, errno.ENOENT)
    monkeypatch.setattr("gateway.upload.route_store._DESCRIPTORS", "/proc/self/none")
    store = _store(tmp_path / "s")
    for _ in range(2):
        _assert_is_put(store, tmp_path, b"hello")
    assert len(asked) == 1


def test_a_folder_that_is_tidied_away_meanwhile_is_made_again_and_changes_nothing_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, link = _store(tmp_path / "s"), os.link
    asked: list[str] = []

    def tidy_first(source: str, target: str, **options: Any) -> None:
        if source.startswith("/proc/"):
            asked.append(target)
            if len(asked) == 1:
                Path(target).parent.rmdir()
        link(source, target, **options)

    monkeypatch.setattr(os, "link", tidy_first)
    for _ in range(2):
        _assert_is_put(store, tmp_path, b"hello")
    assert len(asked) == 2


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    store, name = _store(tmp_path), new_name()
    store.put(name, b"first")
    with pytest.raises(StoreDown):
        store.put(name, b"EVIL")
    assert Path(store.path_of(name)).read_bytes() == b"first"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = _descriptors()
    with pytest.raises(StoreDown):
        _store(tmp_path / "file" / "s").put(new_name(), b"x")
    assert _descriptors() == before


def test_the_reserve_is_kept(tmp_path: Path) -> None:
    before = _descriptors()
    with pytest.raises(StoreFull):
        _store(tmp_path, reserve=1 << 60).put(new_name(), b"x")
    assert _files(tmp_path) == []
    assert _descriptors() == before


def _fill_disk_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)


def _fail_to_flush(what: Callable[[int], bool]) -> Callable[[pytest.MonkeyPatch], None]:
    def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(fd: int) -> None:
            if what(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)

    return prepare


@pytest.mark.parametrize("with_nameless", [True, False])
@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (_fill_disk_in_the_middle, StoreFull),
        (_fail_to_flush(stat.S_ISREG), StoreDown),
        (_fail_to_flush(stat.S_ISDIR), StoreDown),
    ],
    ids=["full in the middle", "file not flushed", "folder not flushed"],
)
def test_what_fails_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[pytest.MonkeyPatch], None],
    error: type[Exception],
    with_nameless: bool,
) -> None:
    store = _store(tmp_path)
    if not with_nameless:
        _refuse_nameless(monkeypatch, errno.EOPNOTSUPP)
    name = new_name()
    Path(store.path_of(name)).parent.mkdir(parents=True)
    before = _descriptors()
    prepare(monkeypatch)
    with pytest.raises(error):
        store.put(name, bytes(1000))
    assert _files(tmp_path) == []
    assert _descriptors() == before


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = _store(tmp_path), new_name()
    Path(store.path_of(name)).parent.mkdir(parents=True)
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def flush(fd: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def name_it(source: str, target: str, **options: Any) -> None:
        done.append("name")
        link(source, target, **options)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "link", name_it)
    store.put(name, b"x")
    assert done == ["file", "name", "folder"]
    done.clear()
    _store(tmp_path, fsync=False).put(new_name(), b"x")
    assert done == ["name"]


def test_a_sweep_is_not_put_off_by_what_the_backend_takes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, names = _store(tmp_path), [new_name() for _ in range(3)]
    for name in names:
        store.put(name, b"x")
        os.utime(store.path_of(name), (1, 1))
    lstat, taken = Path.lstat, Path(store.path_of(names[1]))

    def take(path: Path) -> os.stat_result:
        if path == taken:
            path.unlink(missing_ok=True)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", take)
    assert store.sweep(older_than_s=3600) == 2
    assert _files(tmp_path) == []
