"""Owns what prepared queries promise: the values that SQLAlchemy gives, new connections for lost ones, no waiting."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select

from registry_core.repo.database import Database, DatabaseDown
from registry_core.repo.quick import Prepared, WouldWait
from registry_core.repo.schema import METADATA, users

BY_NAME = select(users.c.id, users.c.name, users.c.admin, users.c.robot, users.c.last_login_at).where(
    users.c.name == bindparam("name")
)
ROW = {"name": "alice", "admin": True, "robot": False, "disabled": False, "created_at": 1}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/r.db")
    METADATA.create_all(database.engine)
    with database.write() as db:
        db.execute(insert(users).values(**ROW))
    yield database
    database.close()


def test_the_values_are_those_that_sqlalchemy_gives(database: Database) -> None:
    (quick,) = database.ask(Prepared(BY_NAME), {"name": "alice"})
    with database.read() as db:
        assert quick == tuple(db.execute(BY_NAME, {"name": "alice"}).one())
    assert quick[2:] == (True, False, None)


def test_what_was_just_written_is_read(database: Database) -> None:
    query = Prepared(BY_NAME)
    assert database.ask(query, {"name": "bob"}) == []
    with database.write() as db:
        db.execute(insert(users).values(**ROW | {"name": "bob"}))
    assert len(database.ask(query, {"name": "bob"})) == 1


def test_a_value_that_is_missing_is_a_mistake_and_not_null(database: Database) -> None:
    with pytest.raises(KeyError, match="name"):
        database.ask(Prepared(BY_NAME), {})


def test_a_lost_connection_is_replaced(database: Database) -> None:
    query = Prepared(BY_NAME)
    database.ask(query, {"name": "alice"})
    database.quick.close()
    assert len(database.ask(query, {"name": "alice"})) == 1


def test_a_broken_database_is_said_to_be_down(database: Database) -> None:
    with database.write() as db:
        db.exec_driver_sql("DROP TABLE users")
    with pytest.raises(DatabaseDown):
        database.ask(Prepared(BY_NAME), {"name": "alice"})


def test_a_database_that_cannot_be_opened_is_down(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    database = Database(f"sqlite:///{tmp_path}/folder")
    with pytest.raises(DatabaseDown):
        database.ask(Prepared(BY_NAME), {"name": "alice"})


def test_a_thread_that_must_not_wait_reads_and_does_nothing_else(database: Database) -> None:
    query = Prepared(BY_NAME)
    database.quick.be_impatient_here()
    assert len(database.ask(query, {"name": "alice"})) == 1
    for begin in (database.read, database.write):
        with pytest.raises(WouldWait), begin():
            pass


def test_trouble_is_left_to_those_who_may_wait(database: Database) -> None:
    with database.write() as db:
        db.exec_driver_sql("DROP TABLE users")
    database.quick.be_impatient_here()
    with pytest.raises(WouldWait):
        database.ask(Prepared(BY_NAME), {"name": "alice"})


def test_each_thread_has_a_connection_and_all_are_closed_at_the_end(database: Database) -> None:
    query = Prepared(BY_NAME)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(database.ask(query, {"name": "alice"}))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8
