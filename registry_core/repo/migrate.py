"""Owns bringing the database to the current schema, once, however many processes start at the same time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from registry_core.errors import DatabaseTrouble
from registry_core.repo.database import Database

# The newest migration; a test compares it with versions/. Known here so that a start need not import Alembic.
HEAD: Final = "0001"
_ADVISORY_LOCK: Final = 0x5247_5354  # any number that nobody else uses in this database


def ensure_current(database: Database) -> bool:
    """Migrate if need be. True if something was done.

    Raises: DatabaseTrouble when the database is newer than this program, or does not answer.
    """
    if _revision(database) == HEAD:
        return False
    with _alone(database):
        if _revision(database) == HEAD:
            return False
        _upgrade(database)
    return True


def _revision(database: Database) -> str | None:
    try:
        with database.engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as exc:
        if "alembic_version" in str(exc.orig):
            return None
        raise DatabaseTrouble(f"The database {database.url!r} does not answer: {exc.orig}") from exc
    return None if found is None else str(found)


def _upgrade(database: Database) -> None:
    from alembic import command  # noqa: PLC0415 – half a second that only a migration may cost
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    with database.write() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise DatabaseTrouble(
                f"The database cannot be brought to version {HEAD}: {exc}. It may belong to a newer release."
            ) from exc


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    if database.file is not None:
        lock = os.open(database.file.with_name(f"{database.file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
        return
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": _ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": _ADVISORY_LOCK})
