"""Owns what owners change about their collections: privacy, words, members, frozen tags, read-only containers."""

from typing import Final

from gateway.contract import parse_name, parse_tag
from gateway.errors import BadForm, NotFound
from registry_core import policy
from registry_core.model import Place
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import accounts, catalog, images, journal
from registry_core.service import places

ROLES: Final = ("reader", "contributor")
_MOST_DESCRIPTION: Final = 4096


def change_collection(
    registry: Registry,
    actor: Actor | None,
    entity: str,
    collection: str,
    *,
    private: bool | None = None,
    description: str | None = None,
) -> None:
    """Raises: NotFound, Unauthorized, Forbidden."""
    actor = policy.require_user(actor)
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, entity, collection)
        places.require(registry, actor, place, "manage")
        if place.collection is None:
            raise NotFound(f"There is no collection {entity}/{collection}.")
        columns: dict[str, object] = {"updated_at": registry.now}
        if private is not None:
            columns["private"] = private
        if description is not None:
            columns["description"] = description[:_MOST_DESCRIPTION]
        catalog.change_collection(db, place.collection.id, **columns)
        journal.add_line(
            db,
            at=registry.now,
            actor=actor.name,
            action="collection.change",
            what=f"{entity}/{collection}",
            detail="" if private is None else ("private" if private else "public"),
        )


def set_member(
    registry: Registry, actor: Actor | None, entity: str, collection: str, *, user: str, role: str | None
) -> None:
    """Give a user a role, or with None take it away. Raises: NotFound, Unauthorized, Forbidden, BadForm."""
    actor = policy.require_user(actor)
    if role is not None and role not in ROLES:
        raise BadForm("A member is a reader or a contributor.")
    user = parse_name(user, "user")
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, entity, collection)
        places.require(registry, actor, place, "manage")
        if place.collection is None:
            raise NotFound(f"There is no collection {entity}/{collection}.")
        found = accounts.user_by_name(db, user)
        if found is None:
            raise BadForm(f"There is no user '{user}'.")
        catalog.set_member(db, collection_id=place.collection.id, user_id=found.id, role=role)
        journal.add_line(
            db,
            at=registry.now,
            actor=actor.name,
            action="collection.member",
            what=f"{entity}/{collection}",
            detail=f"{user}: {role or 'none'}",
        )


def _managed(registry: Registry, actor: Actor, place: Place, named: str) -> int:
    places.require(registry, actor, place, "manage")
    if place.container is None:
        raise NotFound(f"There is no container {named}.")
    return place.container.id


def change_container(
    registry: Registry,
    actor: Actor | None,
    entity: str,
    collection: str,
    container: str,
    *,
    description: str,
    read_only: bool,
) -> None:
    """Raises: NotFound, Unauthorized, Forbidden."""
    actor = policy.require_user(actor)
    named = f"{entity}/{collection}/{container}"
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, entity, collection, container)
        container_id = _managed(registry, actor, place, named)
        catalog.change_container(
            db,
            container_id,
            description=description[:_MOST_DESCRIPTION],
            read_only=read_only,
            updated_at=registry.now,
        )
        journal.add_line(
            db,
            at=registry.now,
            actor=actor.name,
            action="container.change",
            what=named,
            detail="read-only" if read_only else "",
        )


def freeze_tag(
    registry: Registry,
    actor: Actor | None,
    entity: str,
    collection: str,
    container: str,
    *,
    tag: str,
    frozen: bool,
) -> None:
    """Let a tag keep naming its images, or let it go again. Raises: NotFound, Unauthorized, Forbidden, BadForm."""
    actor = policy.require_user(actor)
    tag = parse_tag(tag)
    named = f"{entity}/{collection}/{container}"
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, entity, collection, container)
        container_id = _managed(registry, actor, place, named)
        if not images.freeze_tag(db, container_id=container_id, name=tag, frozen=frozen):
            raise NotFound(f"There is no tag '{tag}' in {named}.")
        journal.add_line(
            db,
            at=registry.now,
            actor=actor.name,
            action="tag.freeze" if frozen else "tag.unfreeze",
            what=f"{named}:{tag}",
        )
