"""Owns what ``gateway uploads ls`` says of files on their way in on upload routes."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.upload.route_store import RouteStore, new_name

ROUTE: Final = """
[[routes]]
path = "{path}"
action = "upload"
upstream = "http://127.0.0.1:1"
store = "{store}"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two routes share a folder, a third has its own."""
    places = {"/a": "shared", "/b": "shared", "/c": "own"}
    text = "".join(ROUTE.format(path=path, store=tmp_path / name) for path, name in places.items())
    (tmp_path / "gateway.toml").write_text(text)
    return tmp_path / "gateway.toml"


def ls(config: Path, *words: str) -> Result:
    command = ["uploads", "ls", "--config", str(config), "--data-dir", str(config.parent / "data"), *words]
    return CliRunner().invoke(main, command)


def uploads(result: Result) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(result.stdout)["uploads"]
    return listed


def store(folder: Path) -> RouteStore:
    return RouteStore(folder, levels=(), access=0o600, reserve_bytes=0, fsync=False)


def test_a_file_on_its_way_is_listed_once_with_the_routes_that_it_may_be_of(config: Path) -> None:
    shared, own = new_name(), new_name()
    first = store(config.parent / "shared").create(shared, size_hint=None)
    first.write(b"hello")
    second = store(config.parent / "own").create(own, size_hint=None)
    try:
        listed = uploads(ls(config, "--json"))
        assert {(one["id"], one["route"], one["size"], one["active"]) for one in listed} == {
            (shared, "/a, /b", 5, True),
            (own, "/c", 0, True),
        }
        said = ls(config).stdout
        assert "running  /a, /b\n" in said
        assert said.endswith("2 uploads in progress, 0 commits wait for the core\n")
        first.seal()  # from here on it is the backend's
        assert [one["id"] for one in uploads(ls(config, "--json"))] == [own]
    finally:
        first.discard()
        second.discard()
    assert uploads(ls(config, "--json")) == []


def test_what_a_dead_process_left_is_told_apart(config: Path) -> None:
    left = config.parent / "own" / ".incoming" / new_name()
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    (listed,) = uploads(ls(config, "--json"))
    assert (listed["id"], listed["route"], listed["active"]) == (left.name, "/c", False)


def test_a_store_that_cannot_be_asked_hides_no_other(config: Path) -> None:
    (config.parent / "shared").write_bytes(b"no folder")
    writer = store(config.parent / "own").create(new_name(), size_hint=None)
    try:
        result = ls(config, "--json")
    finally:
        writer.discard()
    assert [one["route"] for one in uploads(result)] == ["/c"]
    assert result.stderr.startswith("gateway: not listed: /a, /b: ")
    assert result.exit_code == 1
