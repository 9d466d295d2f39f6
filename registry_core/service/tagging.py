"""Owns the tags that clients set and ask for: names of images, one per architecture."""

from typing import Final

from gateway.contract import parse_tag
from gateway.errors import BadForm, Conflict, NotFound
from registry_core import policy
from registry_core.names import DEFAULT_ARCH
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import catalog, images
from registry_core.service import commits, places

_ARCH_CHARS: Final = 32


def tags_by_arch(registry: Registry, actor: Actor | None, container_id: int) -> dict[str, dict[str, int]]:
    """Architecture → tag → image id. Raises: NotFound, Unauthorized."""
    with registry.database.read() as db:
        place = catalog.place_of_container(db, actor, container_id)
        places.require(registry, actor, place, "pull")
        found: dict[str, dict[str, int]] = {}
        for tag in images.tags_in(db, container_id):
            found.setdefault(tag.arch, {})[tag.name] = tag.image_id
    return found


def set_tag(
    registry: Registry, actor: Actor | None, container_id: int, *, tag: str, image_id: int, arch: str = ""
) -> None:
    """Let a tag of this container name an image of this container.

    Raises: NotFound, Unauthorized, Forbidden, BadForm, Conflict, FrozenTag.
    """
    actor = policy.require_user(actor)
    tag = parse_tag(tag)
    with registry.database.write() as db:
        place = catalog.place_of_container(db, actor, container_id)
        places.require(registry, actor, place, "push")
        _entity, _collection, container = places.whole(place)
        image = images.by_id(db, image_id)
        if image is None or image.container_id != container_id:
            raise NotFound(f"There is no image {image_id} in the container {container.name}.")
        if container.read_only:
            raise Conflict(f"The container {container.name} is read-only.")
        if not image.uploaded:
            raise Conflict("The image has no bytes yet; it can be tagged after its upload.")
        commits.move_tag(
            registry,
            db,
            place,
            image_id=image.id,
            sha256=image.sha256,
            tag=tag,
            arch=_arch(arch) or image.arch or DEFAULT_ARCH,
            by=actor.name,
        )


def _arch(text: str) -> str:
    arch = text.strip().lower()
    if arch and (len(arch) > _ARCH_CHARS or not arch.isascii() or not arch.replace("_", "").isalnum()):
        raise BadForm(f"'{text[:40]}' is not the name of an architecture.")
    return arch
