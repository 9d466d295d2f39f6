"""Owns entities, collections and containers: finding them with the rights on them, and making them."""

from typing import Final

from sqlalchemy import Connection

from gateway.contract import parse_name
from gateway.errors import Conflict, Forbidden, NotFound
from registry_core import policy
from registry_core.model import Collection, Container, Entity, Image, Place
from registry_core.policy import Actor, Need, Rights, Scope
from registry_core.registry import Registry
from registry_core.repo import catalog, images, journal

_ID_DIGITS: Final = 18  # fits into 64 bits
# What nobody reads to the end anyway, every list of collections would have to carry.
_MOST_DESCRIPTION: Final = 4096


def rights_in(registry: Registry, actor: Actor | None, place: Place) -> Rights:
    """The policy's answer with this registry's settings."""
    return policy.rights(actor, place, anonymous_pull=registry.anonymous_pull)


def require(registry: Registry, actor: Actor | None, place: Place, need: Need) -> Rights:
    """Raises: NotFound, Unauthorized, Forbidden."""
    return policy.require(actor, place, need, anonymous_pull=registry.anonymous_pull)


def may_make_entity(actor: Actor | None, name: str) -> bool:
    """A user owns the entity of the same name; administrators make any."""
    return actor is not None and actor.scope >= Scope.PUSH and (actor.admin or actor.name == name)


def require_push(
    registry: Registry,
    db: Connection,
    actor: Actor | None,
    *,
    entity: str,
    collection: str,
    container: str = "",
) -> Place:
    """What exists of the place, once it is sure that ``actor`` may push there and make what is missing.

    Raises: NotFound, Unauthorized, Forbidden.
    """
    place = catalog.place_by_names(db, actor, entity, collection, container)
    if place.entity is None and may_make_entity(actor, entity):
        return place
    require(registry, actor, place, "push")
    if place.container is not None and place.container.read_only:
        raise Conflict(f"The container {entity}/{collection}/{container} is read-only.")
    return place


def get_entity(registry: Registry, actor: Actor | None, name: str) -> Entity:
    """An entity that has something to show to ``actor``, or is theirs. Raises: NotFound."""
    with registry.database.read() as db:
        entity = catalog.place_by_names(db, actor, name).entity
        if entity is None:
            raise NotFound(f"There is no entity '{name}', or you may not see it.")
        if actor is not None and (actor.admin or entity.owner_id == actor.user_id):
            return entity
        visible = catalog.visible_to(actor, anonymous_pull=registry.anonymous_pull)
        if not catalog.visible_collections(db, visible, entity_id=entity.id):
            raise NotFound(f"There is no entity '{name}', or you may not see it.")
    return entity


def get_place(
    registry: Registry, actor: Actor | None, entity: str, collection: str, container: str = ""
) -> Place:
    """A collection (and container) that ``actor`` may pull from. Raises: NotFound, Unauthorized."""
    with registry.database.read() as db:
        place = catalog.place_by_names(db, actor, entity, collection, container)
    require(registry, actor, place, "pull")
    if container and place.container is None:
        raise NotFound(f"There is no container {entity}/{collection}/{container}.")
    return place


def make_entity(registry: Registry, actor: Actor | None, name: str, *, description: str = "") -> Entity:
    """The entity, new or as it was. Raises: Unauthorized, Forbidden, BadForm."""
    actor = policy.require_user(actor)
    name = parse_name(name, "entity")
    if not may_make_entity(actor, name):
        raise Forbidden(f"You may not push to '{name}'. The entity that you own is '{actor.name}'.")
    with registry.database.write() as db:
        return ensure_entity(registry, db, actor.name, name, description=description)


def ensure_entity(registry: Registry, db: Connection, by: str, name: str, *, description: str = "") -> Entity:
    """The entity, made if it is missing; it belongs to the user of the same name, if there is one."""
    found = catalog.place_by_names(db, None, name).entity
    if found is not None:
        return found
    owner = catalog.user_id_by_name(db, name)
    entity_id = catalog.add_entity(
        db,
        name=name,
        owner_id=owner,
        description=description[:_MOST_DESCRIPTION],
        default_private=registry.settings.registry.default_private,
        quota_bytes=0,
        created_by=by,
        created_at=registry.now,
        updated_at=registry.now,
    )
    journal.add_line(db, at=registry.now, actor=by, action="entity.add", what=name)
    return _made(catalog.entity_by_id(db, entity_id))


def make_collection(
    registry: Registry,
    actor: Actor | None,
    *,
    entity_id: int | None = None,
    entity: str = "",
    name: str,
    private: bool | None = None,
    description: str = "",
) -> Place:
    """A collection, new or as it was. The entity is given by id or by name.

    Raises: Unauthorized, Forbidden, NotFound, BadForm.
    """
    actor = policy.require_user(actor)
    name = parse_name(name, "collection")
    with registry.database.write() as db:
        by_id = None if entity_id is None else catalog.entity_by_id(db, entity_id)
        if by_id is not None:
            entity = by_id.name
        place = catalog.place_by_names(db, actor, entity, name)
        # The same answer whether the collection exists out of sight or not at all. An entity that was asked for by
        # its number is not named either: who counts up the numbers would be told who has an account here.
        makes_entity = place.entity is None and entity_id is None and may_make_entity(actor, entity)
        if not makes_entity and not rights_in(registry, actor, place).push:
            where = f"to {entity}/{name}" if entity_id is None else "there"
            raise Forbidden(f"You may not push {where}.")
        if entity_id is not None and by_id is None:
            raise NotFound("There is no such entity.")
        owner = ensure_entity(registry, db, actor.name, entity)
        made = ensure_collection(
            registry,
            db,
            actor.name,
            owner,
            name,
            private=private,
            description=description,
            owner_id=actor.user_id,
        )
        return catalog.place_of_collection(db, actor, made.id)


def ensure_collection(
    registry: Registry,
    db: Connection,
    by: str,
    entity: Entity,
    name: str,
    *,
    private: bool | None = None,
    description: str = "",
    owner_id: int | None = None,
) -> Collection:
    """The collection, made if it is missing."""
    found = catalog.place_by_names(db, None, entity.name, name).collection
    if found is not None:
        return found
    wanted = entity.default_private or registry.settings.registry.default_private or bool(private)
    made = catalog.add_collection(
        db,
        entity_id=entity.id,
        name=name,
        owner_id=owner_id,
        description=description[:_MOST_DESCRIPTION],
        private=wanted,
        quota_bytes=0,
        created_by=by,
        created_at=registry.now,
        updated_at=registry.now,
    )
    journal.add_line(db, at=registry.now, actor=by, action="collection.add", what=f"{entity.name}/{name}")
    return _made(catalog.place_of_collection(db, None, made).collection)


def make_container(
    registry: Registry, actor: Actor | None, *, collection_id: int, name: str, description: str = ""
) -> Place:
    """A container, new or as it was. Raises: Unauthorized, Forbidden, NotFound, BadForm."""
    actor = policy.require_user(actor)
    name = parse_name(name, "container")
    with registry.database.write() as db:
        place = catalog.place_of_collection(db, actor, collection_id)
        require(registry, actor, place, "push")
        entity, collection = _made(place.entity), _made(place.collection)
        ensure_container(registry, db, actor.name, collection, name, description=description)
        return catalog.place_by_names(db, actor, entity.name, collection.name, name)


def ensure_container(
    registry: Registry, db: Connection, by: str, collection: Collection, name: str, *, description: str = ""
) -> Container:
    """The container, made if it is missing."""
    found = catalog.container_by_name(db, collection.id, name)
    if found is not None:
        return found
    catalog.add_container(
        db,
        collection_id=collection.id,
        name=name,
        description=description[:_MOST_DESCRIPTION],
        read_only=False,
        created_by=by,
        created_at=registry.now,
        updated_at=registry.now,
    )
    return _made(catalog.container_by_name(db, collection.id, name))


def place_of_image(
    registry: Registry, db: Connection, actor: Actor | None, image_id: int, need: Need
) -> tuple[Place, Image]:
    """An image by its id and where it is, once ``actor`` may do ``need`` there.

    Raises: NotFound, Unauthorized, Forbidden.
    """
    image = images.by_id(db, image_id)
    place = Place() if image is None else catalog.place_of_container(db, actor, image.container_id)
    require(registry, actor, place, need)
    if image is None:
        raise NotFound("There is no such image.")
    return place, image


def parse_id(text: object) -> int:
    """An id that we gave out, as it comes back. Raises: NotFound."""
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS:
        return int(text)
    raise NotFound(f"'{str(text)[:40]}' is not an id of this registry.")


def _made[T](found: T | None) -> T:
    if found is None:
        raise NotFound("This was deleted just now. Try again.")
    return found


def whole(place: Place) -> tuple[Entity, Collection, Container]:
    """The three parts of a place that is known to exist. Raises: NotFound."""
    return _made(place.entity), _made(place.collection), _made(place.container)
