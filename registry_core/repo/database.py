"""Owns connections and transactions: what SQLite and PostgreSQL each need to be safe and quick."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from gateway.errors import StoreError
from registry_core.repo.quick import Prepared, QuickReads, Row, WouldWait

BUSY_MS: Final = 20_000  # how long a writer waits for another process (a backup, a command) to finish
_TIMES: Final = 4
_COLLISIONS: Final = frozenset({"40001", "40P01"})  # PostgreSQL: not serializable, deadlock
_STORE_LOCK: Final = 0x5247_5355  # any number that nobody else uses in this database


class DatabaseDown(StoreError):
    """The database does not answer."""

    code = "database_down"
    default_message = "The registry's database cannot be used right now. Try again in a moment."


class TryAgain(StoreError):
    """Somebody else did the same at the same moment. Doing it once more finds what they made."""

    code = "try_again"
    default_message = "Too much happened here at the same moment. Try again."


def again[T](work: Callable[[], T]) -> T:
    """The result of ``work``, which owns its transactions, done again when others came in between.

    Raises: TryAgain after so many times, and whatever ``work`` raises.
    """
    for _ in range(_TIMES - 1):
        try:
            return work()
        except TryAgain:
            continue
    return work()


class Database:
    """One engine. ``read`` is a snapshot, ``write`` one transaction that is committed at its end."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        if self.url.get_backend_name() == "postgresql" and "+" not in self.url.drivername:
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self) if self.is_sqlite else _server_engine(self)
        self.quick = QuickReads(self.engine)
        # SQLite has one writer at a time, and waits for it by sleeping; our own threads queue up here instead.
        self._writer: Any = threading.RLock() if self.is_sqlite else nullcontext()

    @property
    def file(self) -> Path | None:
        """The SQLite file."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot to read from. Raises: DatabaseDown, WouldWait."""
        self._may_wait()
        try:
            with self.engine.connect() as connection:
                yield connection
        except OperationalError as exc:
            raise DatabaseDown(detail=str(exc.orig)) from exc

    def ask(self, query: Prepared, values: Mapping[str, Any]) -> list[Row]:
        """One query, with no transaction around it: what is asked all the time. Raises: DatabaseDown, WouldWait."""
        try:
            return self.quick.rows(query, values)
        except (self.quick.driver_error, OperationalError) as exc:  # of a query, of a new connection
            raise DatabaseDown(detail=str(exc)) from exc

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One unchanging state for any number of reads. Raises: DatabaseDown."""
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        try:
            with self.engine.connect().execution_options(**level) as connection:
                yield connection
        except OperationalError as exc:
            raise DatabaseDown(detail=str(exc.orig)) from exc

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back by an exception. Raises: DatabaseDown, TryAgain."""
        self._may_wait()
        try:
            with self._writer, self.engine.connect() as bare:
                connection = bare.execution_options(writes=True)
                with connection.begin():
                    yield connection
        except IntegrityError as exc:
            raise TryAgain(detail=str(exc.orig)) from exc
        except OperationalError as exc:
            if getattr(exc.orig, "sqlstate", None) in _COLLISIONS:
                raise TryAgain(detail=str(exc.orig)) from exc
            raise DatabaseDown(detail=str(exc.orig)) from exc

    def share_store(self, db: Connection) -> None:
        """Within a ``write``: nobody removes stored bytes until its end. (SQLite's one writer sees to it.)"""
        if not self.is_sqlite:
            db.execute(text("SELECT pg_advisory_xact_lock_shared(:n)"), {"n": _STORE_LOCK})

    def own_store(self, db: Connection) -> None:
        """Within a ``write``: nobody lists stored bytes until its end, so that they can be removed."""
        if not self.is_sqlite:
            db.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _STORE_LOCK})

    def close(self) -> None:
        """Let go of every connection."""
        self.quick.close()
        self.engine.dispose()

    def _may_wait(self) -> None:
        if self.quick.is_impatient:
            raise WouldWait


def _sqlite_engine(database: Database) -> Engine:
    file = database.file
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(database.url, pool_size=8, max_overflow=40, pool_timeout=30)

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # BEGIN is ours: the driver's own begins too late for a stable snapshot
        for pragma in (
            f"busy_timeout={BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",  # an image that was confirmed is still listed after a power cut
            "foreign_keys=ON",
            "temp_store=MEMORY",
        ):
            raw.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at once: one that began by reading could only fail when another came first.
        writes = "writes" in connection.get_execution_options()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _server_engine(database: Database) -> Engine:
    return create_engine(database.url, pool_size=8, max_overflow=40, pool_pre_ping=True, pool_recycle=1800)
