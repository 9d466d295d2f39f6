"""Small files are written whole or not at all; one process at a time holds a folder."""

import os
from pathlib import Path

import pytest

from gateway.net.files import locked, make_folder, write_atomically


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


def test_what_root_makes_belongs_to_the_owner_of_the_folder_it_is_in(tmp_path: Path) -> None:
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    os.chown(tmp_path, owner, -1)
    make_folder(tmp_path / "acme" / "challenges")
    write_atomically(tmp_path / "acme" / "challenges" / "token", b"proof", 0o600)
    with locked(tmp_path / "acme"):
        pass
    made = [tmp_path / "acme", *(tmp_path / "acme").rglob("*")]
    assert len(made) == 4
    assert {path.stat().st_uid for path in made} == {owner}
    assert (tmp_path / "acme" / "challenges").stat().st_mode & 0o777 == 0o700
    make_folder(tmp_path / "acme")
