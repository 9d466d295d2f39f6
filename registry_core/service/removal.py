"""Owns deleting: images, tags, containers, collections. Bytes go to the trash and are removed by ``gc``."""

from sqlalchemy import Connection

from gateway.errors import NotFound
from gateway.store.keys import blob_key
from registry_core import policy
from registry_core.errors import FrozenTag
from registry_core.model import Image, Place
from registry_core.names import DEFAULT_ARCH, ImageRef
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import catalog, hooks, images, journal
from registry_core.service import events, places


def delete_image(registry: Registry, actor: Actor | None, ref: ImageRef, *, arch: str = "") -> None:
    """Delete by tag or digest.

    By tag: the tag goes, and the image too if no other tag names it. By digest: the image goes with all its tags.
    Raises: NotFound, Unauthorized, Forbidden, FrozenTag.
    """
    actor = policy.require_user(actor)
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, ref.entity, ref.collection, ref.container)
        places.require(registry, actor, place, "delete")
        if place.container is None:
            raise NotFound(f"There is no container {ref.entity}/{ref.collection}/{ref.container}.")
        if ref.sha256:
            image = images.by_digest(db, place.container.id, ref.sha256)
            if image is None:
                raise NotFound(f"There is no image {ref}.")
            drop_image(registry, db, place, image, by=actor.name)
        else:
            _delete_tag(registry, db, place, ref, arch, by=actor.name)


def _delete_tag(
    registry: Registry, db: Connection, place: Place, ref: ImageRef, arch: str, *, by: str
) -> None:
    _entity, _collection, container = places.whole(place)
    found = images.by_tag(db, container.id, ref.tag)
    arch = arch or (DEFAULT_ARCH if DEFAULT_ARCH in found else next(iter(found), ""))
    image = found.get(arch)
    if image is None:
        raise NotFound(f"There is no image {ref}{f' for {arch}' if arch else ''}.")
    if any(tag.frozen for tag in images.tag_rows(db, container.id, ref.tag)):
        raise FrozenTag(f"The tag '{ref.tag}' of {container.name} is frozen and cannot be deleted.")
    images.delete_tag(db, container_id=container.id, name=ref.tag, arch=arch)
    _note_move(registry, db, container_id=container.id, name=ref.tag, arch=arch, by=by)
    if images.tag_names(db, image.id):
        journal.add_line(db, at=registry.now, actor=by, action="tag.delete", what=str(ref), detail=arch)
    else:
        drop_image(registry, db, place, image, by=by)


def _note_move(
    registry: Registry, db: Connection, *, container_id: int, name: str, arch: str, by: str
) -> None:
    images.add_tag_move(
        db, container_id=container_id, name=name, arch=arch, sha256="", by=by, at=registry.now
    )


def drop_image(registry: Registry, db: Connection, place: Place, image: Image, *, by: str) -> None:
    """Delete an image's row and tags; its key goes to the trash. Raises: FrozenTag."""
    entity, collection, container = places.whole(place)
    for tag in images.tags_in(db, container.id):
        if tag.image_id == image.id:
            if tag.frozen:
                raise FrozenTag(f"The tag '{tag.name}' of {container.name} is frozen; its image stays.")
            _note_move(registry, db, container_id=container.id, name=tag.name, arch=tag.arch, by=by)
    key = blob_key(entity.name, collection.name, container.name, image.sha256)
    if image.uploaded:
        journal.add_trash(
            db, key=key, sha256=image.sha256, size=image.size, deleted_by=by, deleted_at=registry.now
        )
        events.note(registry, db, "delete", collection_id=collection.id, what=key, by=by, size=image.size)
    images.delete_image(db, image.id)
    catalog.change_container(db, container.id, updated_at=registry.now)
    journal.add_line(db, at=registry.now, actor=by, action="image.delete", what=key)


def delete_container(
    registry: Registry, actor: Actor | None, entity: str, collection: str, container: str
) -> None:
    """Delete a container with its images. Raises: NotFound, Unauthorized, Forbidden, FrozenTag."""
    actor = policy.require_user(actor)
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, entity, collection, container)
        places.require(registry, actor, place, "delete")
        _drop_container(registry, db, place, by=actor.name)


def _drop_container(registry: Registry, db: Connection, place: Place, *, by: str) -> None:
    _entity, _collection, container = places.whole(place)
    for image in images.images_in(db, container.id):
        drop_image(registry, db, place, image, by=by)
    catalog.delete_container(db, container.id)


def delete_collection(registry: Registry, actor: Actor | None, entity: str, collection: str) -> None:
    """Delete a collection with everything in it. Raises: NotFound, Unauthorized, Forbidden, FrozenTag."""
    actor = policy.require_user(actor)
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, entity, collection)
        places.require(registry, actor, place, "manage")
        if place.entity is None or place.collection is None:
            raise NotFound(f"There is no collection {entity}/{collection}.")
        for container in catalog.containers_in(db, place.collection.id):
            inside = Place(entity=place.entity, collection=place.collection, container=container)
            _drop_container(registry, db, inside, by=actor.name)
        what = f"{entity}/{collection}"
        events.note(
            registry, db, "delete", collection_id=place.collection.id, what=what, by=actor.name, size=0
        )
        hooks.retire_hooks(db, place.collection.id)
        catalog.delete_collection(db, place.collection.id)
        journal.add_line(db, at=registry.now, actor=actor.name, action="collection.delete", what=what)
