"""Owns the order of a core upgrade: copy, migrate, look; and back when something fails."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway import core_upgrade
from gateway.core_upgrade import UpgradeFailed, copy_database, put_back, upgrade_core
from gateway.settings import Settings


def settings_in(folder: Path) -> Settings:
    with closing(sqlite3.connect(folder / "registry.db")) as db:
        db.execute("create table t (x)")
        db.execute("insert into t values (1)")
        db.commit()
    return Settings.model_validate({"server": {"data_dir": folder}})


def rows(path: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("select x from t order by x").fetchall()


def change(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("insert into t values (2)")
        db.commit()


def test_the_copy_is_private_and_can_be_put_back(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    copy = copy_database(settings)
    assert copy.stat().st_mode & 0o777 == 0o600
    change(tmp_path / "registry.db")
    put_back(settings, copy)
    assert rows(tmp_path / "registry.db") == [(1,)]


def test_a_database_that_is_missing_is_a_failure_before_anything_happens(tmp_path: Path) -> None:
    with pytest.raises(UpgradeFailed, match="failed"):
        copy_database(Settings.model_validate({"server": {"data_dir": tmp_path}}))


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)

    def half_a_migration(*_: object) -> None:
        change(tmp_path / "registry.db")
        raise UpgradeFailed("the migration failed: no such column")

    monkeypatch.setattr(core_upgrade, "migrate", half_a_migration)
    with pytest.raises(UpgradeFailed, match="no such column"):
        upgrade_core(settings, config=None, say=lambda _: None, is_well=lambda: True)
    assert rows(tmp_path / "registry.db") == [(1,)]


def test_an_upgrade_without_a_running_gateway_migrates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.setattr(core_upgrade, "migrate", lambda *_: change(tmp_path / "registry.db"))
    said: list[str] = []
    upgrade_core(settings, config=None, say=said.append, is_well=lambda: False)
    assert rows(tmp_path / "registry.db") == [(1,), (2,)]
    assert any("the copy is" in line for line in said)
