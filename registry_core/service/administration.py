"""Owns what an administrator is shown: who uses how much, what is being uploaded, what was done."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, case, func, select, true

from gateway.errors import GatewayError
from gateway.store.base import StagedUpload
from registry_core.model import AuditLine
from registry_core.registry import Registry
from registry_core.repo import journal
from registry_core.repo.schema import collections, containers, entities, images, trash, users

AUDIT_ROWS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityUsage:
    """What one entity holds. ``quota`` 0 = no limit; ``owner`` "" = nobody."""

    name: str
    owner: str
    images: int
    size: int
    quota: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """``stored`` counts equal bytes once; ``free`` None = not known; ``uploads`` None = the store does not answer."""

    entities: tuple[EntityUsage, ...]
    users: int
    images: int
    listed: int
    stored: int
    trashed: int
    free: int | None
    uploads: tuple[StagedUpload, ...] | None
    store: str


def overview(registry: Registry) -> Overview:
    """The state of everything, with the biggest entities first."""
    with registry.database.read() as db:
        used = _usage(registry, db)
        accounts = int(db.execute(select(func.count()).select_from(users)).scalar_one())
        each = (
            select(images.c.sha256, func.max(images.c.size).label("size"))
            .where(images.c.uploaded == true())
            .group_by(images.c.sha256)
            .subquery()
        )
        stored = int(db.execute(select(func.coalesce(func.sum(each.c.size), 0))).scalar_one())
        trashed = int(db.execute(select(func.coalesce(func.sum(trash.c.size), 0))).scalar_one())
    free, uploads, said = _look_at_store(registry)
    return Overview(
        entities=used,
        users=accounts,
        images=sum(one.images for one in used),
        listed=sum(one.size for one in used),
        stored=stored,
        trashed=trashed,
        free=free,
        uploads=uploads,
        store=said,
    )


def _usage(registry: Registry, db: Connection) -> tuple[EntityUsage, ...]:
    # What is not uploaded has no size; as a condition of the join it would make SQLite walk all images each time.
    count = func.coalesce(func.sum(case((images.c.uploaded, 1), else_=0)), 0)
    size = func.coalesce(func.sum(images.c.size), 0)
    found = (
        select(entities.c.name, users.c.name, entities.c.quota_bytes, count, size)
        .select_from(
            entities.outerjoin(users, users.c.id == entities.c.owner_id)
            .outerjoin(collections, collections.c.entity_id == entities.c.id)
            .outerjoin(containers, containers.c.collection_id == collections.c.id)
            .outerjoin(images, images.c.container_id == containers.c.id)
        )
        .group_by(entities.c.id, users.c.name)
        .order_by(size.desc(), entities.c.name)
    )
    default = registry.settings.registry.quota_bytes
    return tuple(
        EntityUsage(
            name=row[0], owner=row[1] or "", quota=row[2] or default, images=int(row[3]), size=int(row[4])
        )
        for row in db.execute(found)
    )


def _look_at_store(registry: Registry) -> tuple[int | None, tuple[StagedUpload, ...] | None, str]:
    try:
        store = registry.store
        found = sorted(store.uploads(), key=lambda upload: upload.modified, reverse=True)
        return store.free_bytes(), tuple(found), ""
    except GatewayError as exc:
        return None, None, exc.message


def audit_lines(registry: Registry, *, before_id: int | None) -> tuple[list[AuditLine], bool]:
    """The newest lines, or those before one; and whether there are older ones."""
    with registry.database.read() as db:
        lines = journal.newest_lines(db, limit=AUDIT_ROWS + 1, before_id=before_id)
    return lines[:AUDIT_ROWS], len(lines) > AUDIT_ROWS
