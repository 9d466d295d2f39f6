"""Small files are written whole or not at all; one process at a time holds a folder."""

from pathlib import Path

import pytest

from gateway.net.files import locked, write_atomically


def test_a_failed_write_leaves_the_old_content_and_no_scrap(tmp_path: Path) -> None:
    target = tmp_path / "leaf.crt"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(target, b"new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["leaf.crt"]


def test_the_lock_can_be_taken_again_after_it_was_let_go(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_lock_that_is_held_is_not_waited_for_when_asked_so(tmp_path: Path) -> None:
    with locked(tmp_path) as got:
        assert got
        with locked(tmp_path, wait=False) as second:
            assert not second
    with locked(tmp_path, wait=False) as third:
        assert third


def test_a_file_has_its_mode_and_whole_content(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old", 0o644)
    write_atomically(tmp_path / "a", b"new", 0o600)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
