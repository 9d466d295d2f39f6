"""Owns the one question that is asked most: what does this reference name, and may it be shown? One statement."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import FromClause, Select, and_, bindparam, func, literal_column, select

from registry_core.model import Collection, Container, Entity, Image, Place
from registry_core.names import ImageRef
from registry_core.policy import Actor
from registry_core.repo.catalog import user_id_of
from registry_core.repo.database import Database
from registry_core.repo.quick import Prepared
from registry_core.repo.rows import maybe, value, width
from registry_core.repo.schema import collections, containers, entities, images, members, tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An image and every tag that names it."""

    image: Image
    tags: tuple[str, ...]


_OTHER: Final = tags.alias("other")
_TAGS_OF: Final = (
    # In the text of the statement, not as a value: a prepared one has only the values that ``find`` gives.
    select(func.aggregate_strings(_OTHER.c.name, literal_column("' '")))  # type: ignore[arg-type]
    .where(_OTHER.c.image_id == images.c.id)
    .correlate(images)
    .scalar_subquery()
)
_PLACE: Final = (
    entities.outerjoin(
        collections,
        and_(collections.c.entity_id == entities.c.id, collections.c.name == bindparam("collection")),
    )
    .outerjoin(
        containers,
        and_(containers.c.collection_id == collections.c.id, containers.c.name == bindparam("container")),
    )
    .outerjoin(
        members, and_(members.c.collection_id == collections.c.id, members.c.user_id == bindparam("user_id"))
    )
)


def _statement(source: FromClause, arch: Any) -> Select[Any]:
    return (
        select(*entities.c, *collections.c, *containers.c, *images.c, members.c.role, arch, _TAGS_OF)
        .select_from(source)
        .where(entities.c.name == bindparam("entity"))
    )


_BY_TAG: Final = Prepared(
    _statement(
        _PLACE.outerjoin(
            tags, and_(tags.c.container_id == containers.c.id, tags.c.name == bindparam("tag"))
        ).outerjoin(images, images.c.id == tags.c.image_id),
        tags.c.arch,
    ).order_by(tags.c.arch)
)
_BY_DIGEST: Final = Prepared(
    _statement(
        _PLACE.outerjoin(
            images, and_(images.c.container_id == containers.c.id, images.c.sha256 == bindparam("sha256"))
        ),
        images.c.arch,
    )
)
_COLLECTION: Final = width(Entity)
_CONTAINER: Final = _COLLECTION + width(Collection)
_IMAGE: Final = _CONTAINER + width(Container)


def find(database: Database, actor: Actor | None, ref: ImageRef) -> tuple[Place, dict[str, Named]]:
    """What exists of the reference's place, and by architecture the images that it names.

    Raises: DatabaseDown, WouldWait.
    """
    names = {"entity": ref.entity, "collection": ref.collection, "container": ref.container}
    what = {"sha256": ref.sha256} if ref.sha256 else {"tag": ref.tag}
    statement = _BY_DIGEST if ref.sha256 else _BY_TAG
    rows = database.ask(statement, {**names, **what, "user_id": user_id_of(actor)})
    if not rows:
        return Place(), {}
    first = rows[0]
    place = Place(
        entity=value(Entity, first),
        collection=maybe(Collection, first, _COLLECTION),
        container=maybe(Container, first, _CONTAINER),
        role=first[-3],
    )
    named = {
        row[-2]: Named(image=value(Image, row, _IMAGE), tags=tuple(sorted(set((row[-1] or "").split()))))
        for row in rows
        if row[_IMAGE] is not None
    }
    return place, named
