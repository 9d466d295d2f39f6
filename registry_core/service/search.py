"""Owns searching: by parts of names, tags, digests and descriptions, and only what the asker may see."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, or_

from gateway.errors import BadForm
from registry_core.model import Collection, Container, Entity, Image
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import catalog, images
from registry_core.repo.schema import collections, containers, entities
from registry_core.repo.schema import images as image_table
from registry_core.repo.schema import tags as tag_table

LEAST_CHARS: Final = 3
# More than any reference has; databases give up on patterns of many thousands.
MOST_CHARS: Final = 500
MOST_RESULTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An image that was found."""

    entity: Entity
    collection: Collection
    container: Container
    image: Image
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """What was found; containers and collections by their own names, images also by their tags and texts."""

    images: tuple[Hit, ...]
    containers: tuple[tuple[Entity, Collection, Container], ...]
    collections: tuple[tuple[Entity, Collection], ...]


def search(
    registry: Registry, actor: Actor | None, value: str, *, arch: str = "", signed: bool | None = None
) -> Hits:
    """Raises: BadForm for fewer than three characters, or far too many."""
    value = value.strip().lower()
    if len(value) < LEAST_CHARS:
        raise BadForm(f"Search for at least {LEAST_CHARS} characters.")
    if len(value) > MOST_CHARS:
        raise BadForm(f"Search for at most {MOST_CHARS} characters.")
    visible = catalog.visible_to(actor, anonymous_pull=registry.anonymous_pull)
    pattern = _like(value)
    condition = and_(visible, _matches(pattern))
    if arch:
        condition = and_(condition, image_table.c.arch == arch)
    if signed is not None:
        condition = and_(condition, image_table.c.signed.is_(signed))
    with registry.database.read() as db:
        rows = images.places_of(db, condition, limit=MOST_RESULTS)
        named = images.tag_names_of(db, [row[3].id for row in rows])
        found = tuple(
            Hit(entity=e, collection=c, container=n, image=i, tags=tuple(named.get(i.id, ())))
            for e, c, n, i in rows
        )
        by_name = catalog.visible_collections(
            db, and_(visible, _has(collections.c.name, pattern)), limit=MOST_RESULTS
        )
        by_container = catalog.visible_containers(
            db, and_(visible, _has(containers.c.name, pattern)), limit=MOST_RESULTS
        )
    return Hits(images=found, containers=tuple(by_container), collections=tuple(by_name))


def _matches(pattern: str) -> ColumnElement[bool]:
    tagged = exists().where(tag_table.c.image_id == image_table.c.id, _has(tag_table.c.name, pattern))
    path = entities.c.name + "/" + collections.c.name + "/" + containers.c.name
    return or_(
        _has(path, pattern),
        _has(containers.c.description, pattern),
        _has(collections.c.description, pattern),
        _has(image_table.c.description, pattern),
        _has("sha256." + image_table.c.sha256, pattern),
        tagged,
    )


def _has(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    return column.ilike(pattern, escape="\\")


def _like(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
