"""Owns the queries about the audit log and the trash."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, select, true

from registry_core.model import AuditLine, Trashed
from registry_core.repo.rows import value
from registry_core.repo.schema import audit, images, trash


def add_line(
    db: Connection, *, at: int, actor: str, action: str, what: str, detail: str = "", address: str = ""
) -> None:
    """Write into the audit log, in the transaction of what it tells of."""
    db.execute(
        insert(audit).values(
            at=at, actor=actor, action=action, object=what, detail=detail, address=address[:64]
        )
    )


def newest_lines(db: Connection, *, limit: int, before_id: int | None = None) -> list[AuditLine]:
    """The newest lines first, or those before one."""
    found = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before_id is not None:
        found = found.where(audit.c.id < before_id)
    return [value(AuditLine, row) for row in db.execute(found)]


def add_trash(db: Connection, **columns: Any) -> None:
    db.execute(insert(trash).values(**columns))


def trashed(db: Connection, *, before: int | None = None) -> list[Trashed]:
    """What was deleted, or deleted before a time."""
    found = select(trash).order_by(trash.c.id)
    if before is not None:
        found = found.where(trash.c.deleted_at < before)
    return [value(Trashed, row) for row in db.execute(found)]


def forget_trash(db: Connection, ids: Iterable[int]) -> None:
    for trash_id in ids:
        db.execute(delete(trash).where(trash.c.id == trash_id))


def forget_trash_key(db: Connection, key: str) -> None:
    """A key is in use again."""
    db.execute(delete(trash).where(trash.c.key == key))


def digests_in_use(db: Connection) -> set[str]:
    """The digest of every uploaded image."""
    return set(db.execute(select(images.c.sha256).where(images.c.uploaded == true()).distinct()).scalars())
