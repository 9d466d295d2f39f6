"""Owns how rows become values, and the statements' common parts."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, cast

from sqlalchemy import Table

from registry_core.model import (
    AuditLine,
    Collection,
    Container,
    Entity,
    Image,
    Session,
    Tag,
    TagMove,
    Token,
    Trashed,
    Upload,
    User,
)
from registry_core.repo import schema

TABLES: Final[dict[type[Any], Table]] = {
    AuditLine: schema.audit,
    Collection: schema.collections,
    Container: schema.containers,
    Entity: schema.entities,
    Image: schema.images,
    Session: schema.sessions,
    Tag: schema.tags,
    TagMove: schema.tag_moves,
    Token: schema.tokens,
    Trashed: schema.trash,
    Upload: schema.uploads,
    User: schema.users,
}
NAMES: Final[dict[type[Any], tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in TABLES
}


def value[T](kind: type[T], row: Sequence[Any], start: int = 0) -> T:
    """The value whose columns begin at ``start`` of ``row``."""
    names = NAMES[kind]
    return kind(**dict(zip(names, row[start : start + len(names)], strict=True)))


def maybe[T](kind: type[T], row: Sequence[Any], start: int = 0) -> T | None:
    """The same of an outer join: None where there was no row (its id is null)."""
    return None if row[start] is None else value(kind, row, start)


def width(kind: type[Any]) -> int:
    """How many columns a value takes."""
    return len(NAMES[kind])


def one[T](kind: type[T], row: object) -> T | None:
    """The value of a row that may be missing."""
    return None if row is None else value(kind, cast("Sequence[Any]", row))
