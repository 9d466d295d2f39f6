"""Owns the upgrade of the core's database: a copy first, then the migration, and the copy back when that fails."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.control import ControlFailed, ask, is_running
from gateway.settings import Settings

Say = Callable[[str], None]
SQLITE: Final = "sqlite:///"


class UpgradeFailed(Exception):
    """The upgrade was not done; the sentence says what is true now."""


def control_socket(settings: Settings) -> Path:
    """Where the running gateway listens."""
    return settings.data_dir / "run" / "control.sock"


def upgrade_core(settings: Settings, *, config: Path | None, say: Say, is_well: Callable[[], bool]) -> None:
    """Stop the core, copy the database, migrate, start, look. Everybody else sees the maintenance page meanwhile.

    ``is_well`` waits for the started core. Raises: UpgradeFailed.
    """
    is_served = is_running(control_socket(settings))
    with _held(settings, say) if is_served else contextlib.nullcontext():
        say("copying the database")
        copy = copy_database(settings)
        say(f"the copy is {copy}")
        try:
            migrate(settings, config)
        except UpgradeFailed:
            put_back(settings, copy)
            raise
    if is_served and not is_well():
        say("the core does not get well: going back")
        with _held(settings, say):
            put_back(settings, copy)
        raise UpgradeFailed(
            f"the new core did not get well. The database is again as it was ({copy} is kept). Install the version"
            " that ran before, then 'gateway core restart'."
        )


@contextlib.contextmanager
def _held(settings: Settings, say: Say) -> Iterator[None]:
    lines = ask(control_socket(settings), "core-hold")
    try:
        say(next(lines))
        yield
    except ControlFailed as exc:
        raise UpgradeFailed(str(exc)) from exc
    finally:
        lines.close()  # hanging up lets the core run again


def copy_database(settings: Settings) -> Path:
    """A copy of the database as it is, made by the database itself. Raises: UpgradeFailed."""
    folder = settings.data_dir / "backups"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    url = settings.database_url
    if url.startswith(SQLITE):
        target = folder / f"registry-{stamp}.db"
        _copy_sqlite(Path(url.removeprefix(SQLITE)), target)
        _make_one_file(target)
        return target
    target = folder / f"registry-{stamp}.dump"
    _run(("pg_dump", "--format=custom", f"--file={target}", _libpq_url(url)), "pg_dump")
    return target


def put_back(settings: Settings, copy: Path) -> None:
    """Make the copy the database again. Raises: UpgradeFailed."""
    url = settings.database_url
    if url.startswith(SQLITE):
        _copy_sqlite(copy, Path(url.removeprefix(SQLITE)))
        return
    _run(("pg_restore", "--clean", "--if-exists", f"--dbname={_libpq_url(url)}", str(copy)), "pg_restore")


def migrate(settings: Settings, config: Path | None) -> None:
    """Bring the database to the schema of the installed version. Raises: UpgradeFailed."""
    arguments = [sys.executable, "-m", "registry_core", "db", "upgrade", "--data-dir", str(settings.data_dir)]
    if config is not None:
        arguments += ["--config", str(config)]
    _run(tuple(arguments), "the migration")


def _copy_sqlite(source: Path, target: Path) -> None:
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
            contextlib.closing(sqlite3.connect(target)) as new,
        ):
            target.chmod(0o600)
            old.backup(new)
    except (sqlite3.Error, OSError) as exc:
        raise UpgradeFailed(f"copying {source} to {target} failed: {exc}") from exc


def _make_one_file(copy: Path) -> None:
    """No write-ahead log beside it: who puts it back by hand copies this file and has all."""
    try:
        with contextlib.closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as exc:
        raise UpgradeFailed(f"{copy} cannot be made whole: {exc}") from exc


def _libpq_url(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(scheme="postgresql").geturl()


def _run(command: tuple[str, ...], name: str) -> None:
    if shutil.which(command[0]) is None:
        raise UpgradeFailed(f"{command[0]} is not installed: nothing was changed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed programs
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise UpgradeFailed(f"{name} failed: {last}")
