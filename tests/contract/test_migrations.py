"""Owns the promise that the migrations lead to the schema that the code uses, once, on every database."""

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import registry_core.repo
from registry_core.errors import DatabaseTrouble
from registry_core.repo.database import Database
from registry_core.repo.migrate import HEAD, ensure_current
from registry_core.repo.schema import METADATA
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'registry.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


def test_the_newest_migration_is_the_one_that_the_start_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(registry_core.repo.__file__).parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_the_migrations_make_exactly_the_schema(url: str) -> None:
    database = Database(url)
    assert ensure_current(database) is True
    with database.read() as db:
        assert compare_metadata(MigrationContext.configure(db), METADATA) == []
    assert ensure_current(database) is False
    database.close()


def test_many_may_start_at_the_same_time(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    done: list[bool] = []
    threads = [threading.Thread(target=lambda d=d: done.append(ensure_current(d))) for d in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, False, True]
    for database in databases:
        database.close()


def test_a_database_of_a_newer_release_is_left_alone(url: str) -> None:
    database = Database(url)
    ensure_current(database)
    with database.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTrouble, match="newer release"):
        ensure_current(database)
    database.close()


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/none?host={tmp_path}")
    with pytest.raises(DatabaseTrouble, match="does not answer"):
        ensure_current(database)
    database.close()
