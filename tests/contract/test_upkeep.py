"""Owns what upkeep may rely on: clean-up, comparison, backup and restore, on every database."""

import gzip
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from registry_core.errors import DatabaseTrouble
from registry_core.registry import Registry
from registry_core.repo.database import Database
from registry_core.repo.migrate import HEAD, ensure_current
from registry_core.service import backup as backups
from registry_core.service import checking, cleaning
from tests.support.core import Core
from tests.support.library_push import make_container, push

CONTENT = b"some image" * 30
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = f"alice/test/tool:sha256.{DIGEST}"
WEEK = 7 * 86_400


def keys(core: Core) -> set[str]:
    return set(core.store.keys())


def test_deleted_bytes_wait_in_the_trash_and_then_go(core: Core) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice")
    assert core.call("DELETE", "/v1/images/alice/test/tool:latest", by="alice").status == 200
    core.clock.at += WEEK - 1
    kept = cleaning.clean(core.registry, dry_run=False)
    assert (kept.removed_keys, kept.waiting) == ((), 1)
    core.clock.at += 1
    foretold = cleaning.clean(core.registry, dry_run=True)
    assert (foretold.removed_keys, foretold.freed_bytes) == ((KEY,), len(CONTENT))
    assert keys(core) == {KEY}
    done = cleaning.clean(core.registry, dry_run=False)
    assert (done.removed_keys, done.waiting) == ((KEY,), 0)
    assert keys(core) == set()


def test_what_was_pushed_again_stays(core: Core) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice")
    core.call("DELETE", "/v1/images/alice/test/tool:latest", by="alice")
    push(core, "alice/test/tool", CONTENT, by="alice")
    core.clock.at += WEEK
    assert cleaning.clean(core.registry, dry_run=False).removed_keys == ()
    assert keys(core) == {KEY}


def test_equal_bytes_elsewhere_stay(core: Core) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice")
    push(core, "alice/other/tool", CONTENT, by="alice")
    core.call("DELETE", "/v1/images/alice/test/tool:latest", by="alice")
    core.clock.at += WEEK
    assert cleaning.clean(core.registry, dry_run=True).freed_bytes == 0
    cleaning.clean(core.registry, dry_run=False)
    assert keys(core) == {f"alice/other/tool:sha256.{DIGEST}"}


def test_a_key_that_nobody_knows_goes_in_two_steps(core: Core) -> None:
    asked = core.ask(by="alice", collection="alice/test", name="tool")
    assert asked.status == 200
    writer = core.store.create("aa", size_hint=None)
    writer.write(CONTENT)
    core.store.place(writer.seal(), sha256=DIGEST, key=KEY)
    assert cleaning.clean(core.registry, dry_run=False).new_orphans == (KEY,)
    assert keys(core) == {KEY}
    assert cleaning.clean(core.registry, dry_run=False).new_orphans == ()
    core.clock.at += WEEK
    cleaning.clean(core.registry, dry_run=False)
    assert keys(core) == set()


def test_pushes_that_never_ended_are_forgotten(core: Core) -> None:
    container = make_container(core, "alice/test/tool", by="alice")
    new = {"hash": f"sha256.{DIGEST}", "container": container}
    image = core.call("POST", "/v1/images", new, by="alice").data["id"]
    core.clock.at += 86_400
    assert cleaning.clean(core.registry, dry_run=False).unfinished == 0
    core.clock.at += 2 * 86_400
    assert cleaning.clean(core.registry, dry_run=False).unfinished == 1
    assert core.call("POST", f"/v2/imagefile/{image}", {"filesize": 1}, by="alice").status == 404


def test_fsck_finds_what_is_missing_and_what_nobody_knows(core: Core) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice")
    push(core, "alice/other/tool", CONTENT, by="alice")
    assert list(checking.check(core.registry, digests=True, repair=False)) == []
    core.store.delete(KEY)
    (fault,) = checking.check(core.registry, digests=True, repair=False)
    assert (fault.kind, fault.key) == ("missing", KEY)
    assert list(checking.check(core.registry, digests=True, repair=True)) == []
    assert KEY in keys(core)
    core.store.link(sha256=DIGEST, key=f"alice/lost/tool:sha256.{DIGEST}")
    (orphan,) = checking.check(core.registry, digests=False, repair=False)
    assert orphan.kind == "orphan"


def test_fsck_reads_every_byte(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice")
    store, real = core.store, core.store.open

    def flip(key: str, *, offset: int = 0, length: int | None = None) -> io.BytesIO:
        file = real(key, offset=offset, length=length)
        data = bytearray(file.read())
        data[3] ^= 1
        return io.BytesIO(data)

    monkeypatch.setattr(type(store), "open", lambda _self, key, **options: flip(key, **options))
    assert list(checking.check(core.registry, digests=False, repair=False)) == []
    assert [fault.kind for fault in checking.check(core.registry, digests=True, repair=False)] == ["digest"]


def test_a_backup_brings_everything_back(core: Core, tmp_path: Path) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice", tag="v1")
    file = tmp_path / "saved"
    written = backups.backup(core.registry, file)
    assert written.blobs == 1
    assert file.stat().st_mode & 0o777 == 0o600
    push(core, "alice/later/tool", CONTENT, by="alice")
    core.call("DELETE", "/v1/images/alice/test/tool:v1", by="alice")
    done = backups.restore(core.registry, file)
    assert (done.rows, done.blobs, done.missing) == (written.rows, 1, ())
    assert core.call("GET", "/v1/images/alice/test/tool:v1", by="alice").data["size"] == len(CONTENT)
    assert core.call("GET", "/v1/collections/alice/later", by="alice").status == 404
    core.add_user("newcomer")
    assert push(core, "alice/again/tool", CONTENT + b"!", by="alice").sent


def test_a_backup_moves_to_another_kind_of_database(core: Core, tmp_path: Path) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice", tag="v1")
    backups.backup(core.registry, tmp_path / "saved")
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    ensure_current(other)
    moved: Registry = replace(core.registry, database=other)
    core.store.delete(KEY)
    assert backups.restore(moved, tmp_path / "saved").missing == (KEY,)
    backups.backup(moved, tmp_path / "again")
    first, second = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("saved", "again"))
    assert first == second
    other.close()


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_what_is_no_whole_backup_changes_nothing(core: Core, tmp_path: Path, damage: str) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice", tag="v1")
    file = tmp_path / "saved"
    backups.backup(core.registry, file)
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    if damage == "cut":
        file.write_bytes(gzip.compress(b"".join(lines[:-1])))
    elif damage == "text":
        file.write_text("no backup")
    else:
        file.write_bytes(gzip.compress(b'{"format":"other"}\n' + b"".join(lines[1:])))
    with pytest.raises(DatabaseTrouble, match="Nothing was changed"):
        backups.restore(core.registry, file)
    assert core.call("GET", "/v1/images/alice/test/tool:v1").status == 200


USER: Final[dict[str, object]] = {
    "id": 1,
    "name": "eve",
    "password": "",
    "email": "",
    "real_name": "",
    "created_at": 1,
    "admin": False,
    "robot": False,
    "disabled": False,
    "last_login_at": None,
}
END: Final[dict[str, object]] = {"end": True, "rows": 1, "blobs": 0}


FORGED: Final[list[list[object]]] = [
    [5],
    [["users"]],
    [["users", 5]],
    [[["users"], {"id": 1}]],
    [{"end": True}],
    [{"blob": "x", "size": "many"}],
    [["users", USER], ["users", {"id": 2, "name": "x"}], {**END, "rows": 2}],
    [["users", USER], ["users", {**USER, "id": 2, "name": "x", "more": 1}], {**END, "rows": 2}],
    [["users", USER], ["users", USER], {**END, "rows": 2}],
    [["users", {**USER, "admin": "yes"}], END],
    [["users", {**USER, "name": None}], END],
    [["users", {**USER, "name": "\ud800"}], END],
    [["users", {**USER, "created_at": 2**80}], END],
    [{**END, "rows": 0}, ["users", USER]],
    [json.loads("[" * 900 + "]" * 900)],
]


@pytest.mark.parametrize("lines", FORGED)
def test_a_forged_backup_changes_nothing(core: Core, tmp_path: Path, lines: list[object]) -> None:
    file = tmp_path / "forged"
    head = {"format": backups.FORMAT, "schema": HEAD, "at": 1}
    file.write_bytes(gzip.compress("".join(f"{json.dumps(one)}\n" for one in [head, *lines]).encode()))
    with pytest.raises(DatabaseTrouble, match=r"Nothing was changed|does not know"):
        backups.restore(core.registry, file)
    assert core.call("GET", "/v1/entities", by="alice").status == 200


def test_a_backup_of_another_schema_changes_nothing(core: Core, tmp_path: Path) -> None:
    file = tmp_path / "foreign"
    head = {"format": backups.FORMAT, "schema": "9999", "at": 1}
    file.write_bytes(gzip.compress(f"{json.dumps(head)}\n{json.dumps({**END, 'rows': 0})}\n".encode()))
    with pytest.raises(DatabaseTrouble, match="another release"):
        backups.restore(core.registry, file)
    assert core.call("GET", "/v1/entities", by="alice").status == 200


def test_a_backup_that_is_damaged_changes_nothing(core: Core, tmp_path: Path) -> None:
    file = tmp_path / "damaged"
    backups.backup(core.registry, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:30] + b"\xff" * 9 + whole[39:])
    with pytest.raises(DatabaseTrouble, match="Nothing was changed"):
        backups.restore(core.registry, file)
    assert core.call("GET", "/v1/entities", by="alice").status == 200
