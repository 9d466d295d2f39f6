"""Owns the registry that pages are tested on: a database in a file, a store in memory, a clock that stands still."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.core import Core, open_core

type OpenCore = Callable[..., Core]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the current schema, to copy: migrating each one anew takes its time."""
    folder = tmp_path_factory.mktemp("migrated")
    core = open_core(folder)
    core.registry.database.close()
    return folder / "registry.db"


@pytest.fixture
def new_core(tmp_path: Path, migrated: Path) -> Iterator[OpenCore]:
    """Opens registries whose settings the test chooses."""
    shutil.copy(migrated, tmp_path)
    opened: list[Core] = []

    def make(**settings: Any) -> Core:
        opened.append(open_core(tmp_path, **settings))
        return opened[-1]

    yield make
    for core in opened:
        core.registry.database.close()


@pytest.fixture
def core(new_core: OpenCore) -> Core:
    """A registry with nobody in it."""
    return new_core()
