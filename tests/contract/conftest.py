"""Owns what the contract tests run against: the registry, once on each database, and a store of each kind."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from registry_core.repo.database import Database
from registry_core.repo.migrate import ensure_current
from registry_core.repo.schema import METADATA
from tests.support.core import Core, open_core
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.seaweed import Seaweed, running_seaweed
from tests.support.store_cases import Case, DiskCase, MemoryCase, S3Case

type OpenCore = Callable[..., Core]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each gets a database of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """The URL of a database with the current schema, which the tests use one after the other."""
    url = postgres.new_database()
    database = Database(url)
    ensure_current(database)
    database.close()
    return url


def empty(url: str) -> str:
    """The same database without a row: making one anew for every test costs a thousand files each."""
    database = Database(url)
    with database.write() as db:
        for table in reversed(METADATA.sorted_tables):
            db.execute(delete(table))
    database.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def new_core(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenCore]:
    """Opens registries whose settings the test chooses."""
    opened: list[Core] = []
    url = ""
    if request.param == "postgresql":
        url = empty(request.getfixturevalue("migrated"))

    def make(**settings: Any) -> Core:
        core = partial(open_core, tmp_path, database_url=url)(**settings)
        opened.append(core)
        return core

    yield make
    for core in opened:
        core.registry.database.close()


@pytest.fixture
def core(new_core: OpenCore) -> Core:
    """A registry with three users: alice and bob, and root, who administers it."""
    made = new_core()
    made.add_user("alice")
    made.add_user("bob")
    made.add_user("root", scope="admin", admin=True)
    return made


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """One server for all tests; each has a bucket of its own."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as server:
        yield server


@pytest.fixture(params=["memory", "disk", "s3"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A fresh store of each kind."""
    if request.param == "memory":
        yield MemoryCase()
    elif request.param == "disk":
        yield DiskCase(tmp_path / "root")
    else:
        made = S3Case(request.getfixturevalue("seaweed"), tmp_path)
        yield made
        for opened in made.opened:
            opened.close()
