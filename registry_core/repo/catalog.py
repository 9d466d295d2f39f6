"""Owns the queries about entities, collections, containers and members."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    false,
    insert,
    or_,
    select,
    true,
    update,
)

from registry_core.model import Collection, Container, Entity, Place
from registry_core.policy import Actor
from registry_core.repo.accounts import changed_rows, inserted_id
from registry_core.repo.rows import maybe, one, value, width
from registry_core.repo.schema import collections, containers, entities, members, users

_ROLE_ON: Final = and_(members.c.collection_id == collections.c.id, members.c.user_id == bindparam("user_id"))
_COLUMNS: Final = (*entities.c, *collections.c, *containers.c, members.c.role)
_BY_NAMES: Final = (
    select(*_COLUMNS)
    .select_from(
        entities.outerjoin(
            collections,
            and_(collections.c.entity_id == entities.c.id, collections.c.name == bindparam("collection")),
        )
        .outerjoin(
            containers,
            and_(containers.c.collection_id == collections.c.id, containers.c.name == bindparam("container")),
        )
        .outerjoin(members, _ROLE_ON)
    )
    .where(entities.c.name == bindparam("entity"))
)
_UPWARDS: Final = (
    entities.join(collections, collections.c.entity_id == entities.c.id)
    .join(containers, containers.c.collection_id == collections.c.id)
    .outerjoin(members, _ROLE_ON)
)
_BY_CONTAINER: Final = (
    select(*_COLUMNS).select_from(_UPWARDS).where(containers.c.id == bindparam("container_id"))
)
_BY_COLLECTION: Final = (
    select(*entities.c, *collections.c, members.c.role)
    .select_from(
        entities.join(collections, collections.c.entity_id == entities.c.id).outerjoin(members, _ROLE_ON)
    )
    .where(collections.c.id == bindparam("collection_id"))
)


def user_id_of(actor: Actor | None) -> int:
    """What the statements take as the asker: 0 is nobody."""
    return 0 if actor is None else actor.user_id


def place_by_names(
    db: Connection, actor: Actor | None, entity: str, collection: str = "", container: str = ""
) -> Place:
    """What exists of ``entity/collection/container``."""
    names = {"entity": entity, "collection": collection, "container": container}
    row = db.execute(_BY_NAMES, {**names, "user_id": user_id_of(actor)}).first()
    return Place() if row is None else _place(row)


def place_of_container(db: Connection, actor: Actor | None, container_id: int) -> Place:
    row = db.execute(_BY_CONTAINER, {"container_id": container_id, "user_id": user_id_of(actor)}).first()
    return Place() if row is None else _place(row)


def place_of_collection(db: Connection, actor: Actor | None, collection_id: int) -> Place:
    row = db.execute(_BY_COLLECTION, {"collection_id": collection_id, "user_id": user_id_of(actor)}).first()
    if row is None:
        return Place()
    return Place(entity=value(Entity, row), collection=value(Collection, row, width(Entity)), role=row[-1])


def _place(row: Sequence[Any]) -> Place:
    second = width(Entity)
    third = second + width(Collection)
    return Place(
        entity=maybe(Entity, row),
        collection=maybe(Collection, row, second),
        container=maybe(Container, row, third),
        role=row[-1],
    )


def visible_to(actor: Actor | None, *, anonymous_pull: bool) -> ColumnElement[bool]:
    """The condition on joined ``entities`` and ``collections`` that says what ``policy.rights`` calls pull."""
    public = collections.c.private == false()
    if actor is None:
        return public if anonymous_pull else false()
    if actor.admin:
        return true()
    member = exists().where(members.c.collection_id == collections.c.id, members.c.user_id == actor.user_id)
    return or_(public, entities.c.owner_id == actor.user_id, collections.c.owner_id == actor.user_id, member)


def entity_by_id(db: Connection, entity_id: int) -> Entity | None:
    return one(Entity, db.execute(select(entities).where(entities.c.id == entity_id)).first())


def entities_of(db: Connection, user_id: int) -> list[Entity]:
    """The entities that a user owns."""
    found = select(entities).where(entities.c.owner_id == user_id).order_by(entities.c.name)
    return [value(Entity, row) for row in db.execute(found)]


def visible_collections(
    db: Connection, visible: ColumnElement[bool], *, entity_id: int | None = None, limit: int | None = None
) -> list[tuple[Entity, Collection]]:
    """The collections that fulfil ``visible``, by name."""
    found = (
        select(*entities.c, *collections.c)
        .join_from(entities, collections, collections.c.entity_id == entities.c.id)
        .where(visible)
        .order_by(entities.c.name, collections.c.name)
        .limit(limit)
    )
    if entity_id is not None:
        found = found.where(entities.c.id == entity_id)
    return [(value(Entity, row), value(Collection, row, width(Entity))) for row in db.execute(found)]


def visible_containers(
    db: Connection, visible: ColumnElement[bool], *, limit: int | None = None
) -> list[tuple[Entity, Collection, Container]]:
    """The containers that fulfil ``visible``, by name."""
    found = (
        select(*entities.c, *collections.c, *containers.c)
        .select_from(
            entities.join(collections, collections.c.entity_id == entities.c.id).join(
                containers, containers.c.collection_id == collections.c.id
            )
        )
        .where(visible)
        .order_by(entities.c.name, collections.c.name, containers.c.name)
        .limit(limit)
    )
    second = width(Entity)
    third = second + width(Collection)
    return [
        (value(Entity, row), value(Collection, row, second), value(Container, row, third))
        for row in db.execute(found)
    ]


def containers_in(db: Connection, collection_id: int) -> list[Container]:
    found = select(containers).where(containers.c.collection_id == collection_id).order_by(containers.c.name)
    return [value(Container, row) for row in db.execute(found)]


def add_entity(db: Connection, **columns: Any) -> int:
    """A new entity's id."""
    return inserted_id(db.execute(insert(entities).values(**columns)))


def change_entity(db: Connection, entity_id: int, **columns: Any) -> None:
    db.execute(update(entities).where(entities.c.id == entity_id).values(**columns))


def add_collection(db: Connection, **columns: Any) -> int:
    """A new collection's id."""
    return inserted_id(db.execute(insert(collections).values(**columns)))


def change_collection(db: Connection, collection_id: int, **columns: Any) -> None:
    db.execute(update(collections).where(collections.c.id == collection_id).values(**columns))


def delete_collection(db: Connection, collection_id: int) -> None:
    db.execute(delete(collections).where(collections.c.id == collection_id))


def add_container(db: Connection, **columns: Any) -> int:
    """A new container's id."""
    return inserted_id(db.execute(insert(containers).values(**columns)))


def change_container(db: Connection, container_id: int, **columns: Any) -> None:
    db.execute(update(containers).where(containers.c.id == container_id).values(**columns))


def delete_container(db: Connection, container_id: int) -> None:
    db.execute(delete(containers).where(containers.c.id == container_id))


def members_of(db: Connection, collection_id: int) -> list[tuple[str, str]]:
    """(user name, role) of everyone who was given a role."""
    found = (
        select(users.c.name, members.c.role)
        .join_from(members, users, members.c.user_id == users.c.id)
        .where(members.c.collection_id == collection_id)
        .order_by(users.c.name)
    )
    return [(row.name, row.role) for row in db.execute(found)]


def set_member(db: Connection, *, collection_id: int, user_id: int, role: str | None) -> bool:
    """Give a role or, with None, take it away; False if there was none to take."""
    gone = db.execute(
        delete(members).where(members.c.collection_id == collection_id, members.c.user_id == user_id)
    )
    if role is None:
        return changed_rows(gone) > 0
    db.execute(insert(members).values(collection_id=collection_id, user_id=user_id, role=role))
    return True


def user_id_by_name(db: Connection, name: str) -> int | None:
    """The user to whom the entity of this name belongs."""
    found = db.execute(select(users.c.id).where(users.c.name == name)).scalar()
    return None if found is None else int(found)


def container_by_name(db: Connection, collection_id: int, name: str) -> Container | None:
    found = select(containers).where(containers.c.collection_id == collection_id, containers.c.name == name)
    return one(Container, db.execute(found).first())


def lock_entity(db: Connection, entity_id: int) -> None:
    """Until the end of this transaction nobody else adds to the entity's bytes. (SQLite's one writer sees to it.)"""
    db.execute(select(entities.c.id).where(entities.c.id == entity_id).with_for_update(key_share=True))
