"""Owns backup and restore: the whole database as text that any of its kinds can read, with a list of the blobs.

A backup is gzipped JSON lines: a head, then every row as ``[table, {column: value}]``, then a line for every blob,
then an end that counts the lines. Who signed in where, and uploads under way, are not in it.
"""

import gzip
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import Connection, Table, delete, insert, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from gateway.errors import NotFound
from registry_core.errors import DatabaseTrouble
from registry_core.registry import Registry
from registry_core.repo import images
from registry_core.repo.migrate import HEAD
from registry_core.repo.schema import METADATA

FORMAT: Final = "sregistry-gateway backup 1"
_TRANSIENT: Final = frozenset({"sessions", "throttles", "uploads"})
_ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What went into a backup, or came out of it. ``missing`` blobs are listed but not in the store."""

    rows: int
    blobs: int
    missing: tuple[str, ...] = ()


def _tables() -> list[Table]:
    return [table for table in METADATA.sorted_tables if table.name not in _TRANSIENT]


def backup(registry: Registry, path: Path) -> Written:
    """Write a consistent backup while the server runs; the file is complete or not there.

    Raises: DatabaseDown, OSError.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(opened, "wb") as raw:
            with gzip.open(raw, "wt", encoding="utf-8") as file:
                written = _write(registry, file)
            raw.flush()
            os.fsync(raw.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return written


def _write(registry: Registry, file: IO[str]) -> Written:
    rows = 0
    with registry.database.snapshot() as db:
        _line(file, {"format": FORMAT, "schema": HEAD, "at": registry.now})
        for table in _tables():
            for row in db.execute(select(table).order_by(*table.primary_key)).mappings():
                _line(file, [table.name, dict(row)])
                rows += 1
        blobs = images.sizes_by_key(db)
    for key, size in sorted(blobs.items()):
        _line(file, {"blob": key, "size": size})
    _line(file, {"end": True, "rows": rows, "blobs": len(blobs)})
    return Written(rows=rows, blobs=len(blobs))


def _line(file: IO[str], value: Any) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def restore(registry: Registry, path: Path) -> Written:
    """Replace everything in the database by what the backup holds, in one transaction.

    Raises: DatabaseTrouble for a file that is no whole backup of ours, DatabaseDown, OSError.
    """
    blobs: dict[str, int] = {}
    with registry.database.write() as db:
        registry.database.own_store(db)
        for table in reversed(METADATA.sorted_tables):
            db.execute(delete(table))
        try:
            rows = _read_rows(db, path, blobs)
        except OperationalError:
            raise  # the database is down
        except (SQLAlchemyError, ValueError, TypeError, LookupError, ArithmeticError) as exc:
            # Whoever wrote these lines was not this program; the database refuses some of it, we the rest.
            what = f"{type(exc).__name__}: {str(exc).splitlines()[0][:200]}"
            raise DatabaseTrouble(
                f"{path} holds what no backup of ours does ({what}). Nothing was changed."
            ) from exc
        _continue_ids(registry, db)
    registry.actors.clear()
    return Written(rows=rows, blobs=len(blobs), missing=tuple(_missing(registry, blobs)))


def _read_rows(db: Connection, path: Path, blobs: dict[str, int]) -> int:
    pending: list[dict[str, Any]] = []
    rows, table_name, ended = 0, "", False
    for value in _read_lines(path):
        ended = False  # the end is the last line
        if isinstance(value, list):
            name, row = value
            if name != table_name or len(pending) >= _ROWS_AT_ONCE:
                _insert(db, table_name, pending)
                table_name, pending = name, []
            pending.append(row)
            rows += 1
        elif "blob" in value:
            blobs[str(value["blob"])] = int(value["size"])
        elif value.get("end"):
            ended = (rows, len(blobs)) == (value["rows"], value["blobs"])
    _insert(db, table_name, pending)
    if not ended:
        raise DatabaseTrouble(f"{path} is not a whole backup: its end is missing. Nothing was changed.")
    return rows


def _insert(db: Connection, table_name: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = METADATA.tables.get(table_name)
    columns = set() if table is None else {column.name for column in table.c}
    if table is None or any(set(row) != set(rows[0]) for row in rows) or not set(rows[0]) <= columns:
        raise DatabaseTrouble(
            f"The backup has a table or column at '{table_name}' that this release does not know."
        )
    db.execute(insert(table), rows)


def _read_lines(path: Path) -> Iterator[Any]:
    not_ours = DatabaseTrouble(f"{path} is not a backup made by this program. Nothing was changed.")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head = json.loads(next(file, "null"))
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise not_ours
            if head.get("schema") != HEAD:
                raise DatabaseTrouble(
                    f"{path} was made by another release, with the schema {head.get('schema')!r} instead of {HEAD!r}."
                    " Restore it with that release, then upgrade. Nothing was changed."
                )
            for line in file:
                yield json.loads(line)
    except (ValueError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise not_ours from exc


def _continue_ids(registry: Registry, db: Connection) -> None:
    """PostgreSQL counts ids by itself and must be told how far they are; SQLite looks."""
    if registry.database.is_sqlite:
        return
    for table in METADATA.sorted_tables:
        if "id" in table.c and table.c.id.autoincrement is True:
            db.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'),"  # noqa: S608 – our own names
                    f" COALESCE((SELECT max(id) FROM {table.name}), 0) + 1, false)"
                )
            )


def _missing(registry: Registry, blobs: dict[str, int]) -> Iterator[str]:
    for key, size in blobs.items():
        try:
            if registry.store.stat(key).size == size:
                continue
        except NotFound:  # no such blob, or no key at all
            pass
        yield key
