"""Owns the shortest way to an answer: statements compiled once, run by the driver on a connection of the thread.

What every pull asks takes SQLAlchemy 200 µs of CPU and the database 30.
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Engine, Select
from sqlalchemy.sql.compiler import SQLCompiler

type Row = tuple[Any, ...]


class WouldWait(Exception):
    """Not now: somebody who may wait has to ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """``order`` names the values in the order of their places, None where the driver takes them by name."""

    text: str
    constants: Mapping[str, Any]
    order: tuple[str, ...] | None
    conversions: tuple[tuple[int, Callable[[Any], Any]], ...]

    def arguments(self, values: Mapping[str, Any]) -> Any:
        given = {**self.constants, **values}
        return given if self.order is None else tuple(map(given.__getitem__, self.order))

    def converted(self, row: Row) -> Row:
        values = list(row)
        for place, convert in self.conversions:
            values[place] = convert(values[place])
        return tuple(values)


class Prepared:
    """A query whose values are all given by name."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, dialect: Dialect, connection: Any, values: Mapping[str, Any]) -> list[Row]:
        """All rows, their values as SQLAlchemy would give them."""
        known = self._compiled.get(dialect.name)
        if known is None:
            known = self._compiled[dialect.name] = self._compile(dialect)
        cursor = connection.execute(known.text, known.arguments(values))
        rows: list[Row] = cursor.fetchall()
        cursor.close()
        return [known.converted(row) for row in rows] if known.conversions else rows

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled = self._statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 – what a Select is compiled to
        conversions = (
            (place, column.type.dialect_impl(dialect).result_processor(dialect, None))
            for place, column in enumerate(self._statement.selected_columns)
        )
        return _Compiled(
            text=str(compiled),
            constants={name: value for name, value in compiled.params.items() if value is not None},
            order=tuple(compiled.positiontup or ()) if compiled.positional else None,
            conversions=tuple((place, convert) for place, convert in conversions if convert is not None),
        )


class _Kept:
    """One thread's connection, closed when the thread is gone."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.close = weakref.finalize(self, connection.close)


class QuickReads:
    """Runs prepared queries outside of transactions. Each thread keeps a connection, one more than its pooled one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._of_thread = threading.local()
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        self._impatient = -1

    def be_impatient_here(self) -> None:
        """This thread runs the event loop: only SQLite's own reading is quick enough for it, and never a lock."""
        if self._is_sqlite:
            self._connection().execute("PRAGMA busy_timeout=0").close()
        self._impatient = threading.get_ident()

    @property
    def is_impatient(self) -> bool:
        """Whether the calling thread must not wait."""
        return threading.get_ident() == self._impatient

    def rows(self, query: Prepared, values: Mapping[str, Any]) -> list[Row]:
        """Raises: WouldWait, and what the driver raises."""
        if self.is_impatient:
            return self._at_once(query, values)
        try:
            return query.run(self._engine.dialect, self._connection(), values)
        except self.driver_error:
            # The server was restarted since the last time, perhaps: once more, on a new connection.
            self._drop()
            return query.run(self._engine.dialect, self._connection(), values)

    def close(self) -> None:
        """Let go of every connection."""
        for kept in list(self._kept):
            kept.close()

    def _at_once(self, query: Prepared, values: Mapping[str, Any]) -> list[Row]:
        kept = self._of_thread.kept if self._is_sqlite else None
        if kept is None or not kept.close.alive:
            raise WouldWait
        try:
            return query.run(self._engine.dialect, kept.connection, values)
        except self.driver_error as exc:
            raise WouldWait from exc

    @property
    def driver_error(self) -> type[Exception]:
        """What ``rows`` raises when the database does not answer."""
        found: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        return found

    def _connection(self) -> Any:
        kept: _Kept | None = getattr(self._of_thread, "kept", None)
        if kept is None or not kept.close.alive:
            kept = _Kept(self._connect())
            self._of_thread.kept = kept
            self._kept.add(kept)
        return kept.connection

    def _connect(self) -> Any:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()  # the pool counts it no longer, and opens another
        if not self._is_sqlite:
            connection.autocommit = True
        return connection

    def _drop(self) -> None:
        kept: _Kept | None = getattr(self._of_thread, "kept", None)
        if kept is not None:
            kept.close()
