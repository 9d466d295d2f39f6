"""Owns the JSON of the library API, field by field as the clients' models read it.

Strict types: a client of ours fails on a float size, a number as id, or an empty time.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from registry_core.model import Collection, Container, Entity, Image, Place
from registry_core.service.pull import FoundImage
from registry_core.service.search import Hit

type Json = dict[str, Any]


def rfc3339(at: int) -> str:
    """A time as Go reads it."""
    return f"{datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat()}Z"


def _base(id_: int, created_by: str, created_at: int, updated_at: int) -> Json:
    return {
        "id": str(id_),
        "createdBy": created_by,
        "createdAt": rfc3339(created_at),
        "updatedBy": created_by,
        "updatedAt": rfc3339(updated_at),
        "deleted": False,
        "deletedAt": None,
        "deletedBy": "",
    }


def entity_json(
    entity: Entity, collections: Iterable[Collection] = (), *, used: int = 0, quota: int = 0
) -> Json:
    return {
        **_base(entity.id, entity.created_by, entity.created_at, entity.updated_at),
        "name": entity.name,
        "description": entity.description,
        "collections": [str(collection.id) for collection in collections],
        "size": used,
        "quota": quota or entity.quota_bytes,
        "defaultPrivate": entity.default_private,
        "customData": "",
    }


def collection_json(
    entity: Entity, collection: Collection, containers: Iterable[Container] = (), *, used: int = 0
) -> Json:
    return {
        **_base(collection.id, collection.created_by, collection.created_at, collection.updated_at),
        "name": collection.name,
        "description": collection.description,
        "entity": str(entity.id),
        "entityName": entity.name,
        "containers": [str(container.id) for container in containers],
        "size": used,
        "private": collection.private,
        "owner": collection.created_by,
        "customData": "",
    }


def container_json(
    entity: Entity,
    collection: Collection,
    container: Container,
    *,
    images: Iterable[Image] = (),
    tags: dict[str, dict[str, int]] | None = None,
) -> Json:
    shown = list(images)
    return {
        **_base(container.id, container.created_by, container.created_at, container.updated_at),
        "name": container.name,
        "description": container.description,
        "fullDescription": container.description,
        "collection": str(collection.id),
        "collectionName": collection.name,
        "entity": str(entity.id),
        "entityName": entity.name,
        "images": [str(image.id) for image in shown],
        "imageTags": flat_tags(tags or {}),
        "archTags": arch_tags(tags or {}),
        "size": sum(image.size for image in shown),
        "downloadCount": container.downloads,
        "stars": 0,
        "private": collection.private,
        "readOnly": container.read_only,
        "owner": container.created_by,
        "customData": "",
    }


def image_json(place: Place, image: Image, tags: Iterable[str] = ()) -> Json:
    entity, collection, container = place.entity, place.collection, place.container
    assert entity and collection and container  # noqa: S101, PT018 – an image is always somewhere
    return {
        **_base(image.id, image.created_by, image.created_at, image.updated_at),
        "hash": f"sha256.{image.sha256}",
        "description": image.description,
        "container": str(container.id),
        "containerName": container.name,
        "collection": str(collection.id),
        "collectionName": collection.name,
        "entity": str(entity.id),
        "entityName": entity.name,
        "fingerprints": image.fingerprints.split(),
        "size": image.size,
        "uploaded": image.uploaded,
        "arch": image.arch,
        "signed": image.signed,
        "encrypted": None,
        "tags": list(tags),
        "containerStars": 0,
        "containerDownloads": container.downloads,
        "downloadCount": image.downloads,
        "owner": image.created_by,
        "customData": "",
    }


def found_json(found: FoundImage) -> Json:
    return image_json(found.place, found.image, found.tags)


def hit_json(hit: Hit) -> Json:
    place = Place(entity=hit.entity, collection=hit.collection, container=hit.container)
    return image_json(place, hit.image, hit.tags)


def arch_tags(tags: dict[str, dict[str, int]]) -> dict[str, dict[str, str]]:
    """Architecture → tag → image id, as text."""
    return {arch: {tag: str(image_id) for tag, image_id in named.items()} for arch, named in tags.items()}


def flat_tags(tags: dict[str, dict[str, int]]) -> dict[str, str]:
    """Tag → image id for clients that know one architecture; amd64 counts where a tag has several."""
    flat: dict[str, str] = {}
    for arch in sorted(tags, key=lambda arch: arch == "amd64"):
        flat.update({tag: str(image_id) for tag, image_id in tags[arch].items()})
    return flat
