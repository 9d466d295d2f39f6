"""Owns finding images and handing out links to their bytes."""

from dataclasses import dataclass

from gateway.contract import BLOB_PREFIX, BlobLink, seal
from gateway.errors import GatewayError, NotFound
from gateway.store.keys import blob_key
from registry_core.model import Image, Place
from registry_core.names import DEFAULT_ARCH, ImageRef
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import images, lookup
from registry_core.service import direct, places


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image with its place and every tag that names it. ``tag`` is the one it was found by, or ""."""

    place: Place
    image: Image
    tags: tuple[str, ...]
    tag: str


def find_image(
    registry: Registry, actor: Actor | None, ref: ImageRef, *, arch: str = "", uploaded_only: bool = False
) -> FoundImage:
    """The image that ``ref`` names for an architecture ("" = whichever it has, amd64 first).

    An image without bytes is shown to those who may push them. Raises: NotFound, Unauthorized.
    """
    place, named = lookup.find(registry.database, actor, ref)
    granted = places.require(registry, actor, place, "pull")
    if place.container is None:
        raise NotFound(f"There is no container {ref.entity}/{ref.collection}/{ref.container}.")
    found = _choose(named, "" if ref.sha256 else arch)
    if found is None or not (found.image.uploaded or (granted.push and not uploaded_only)):
        for_arch = f" for {arch}" if arch and not ref.sha256 else ""
        raise NotFound(f"There is no image {ref}{for_arch}.")
    return FoundImage(place=place, image=found.image, tags=found.tags, tag=ref.tag)


def _choose(named: dict[str, lookup.Named], arch: str) -> lookup.Named | None:
    if arch:
        return named.get(arch)
    return named.get(DEFAULT_ARCH) or next(iter(named.values()), None)


def link_to_bytes(registry: Registry, found: FoundImage, *, method: str) -> str:
    """A URL that reads the image until it expires, by GET or HEAD; a GET is counted as a download.

    Raises: StoreDown, BlobMissing (only where clients are sent to S3).
    """
    entity, collection, container = places.whole(found.place)
    image = found.image
    label = found.tag or f"sha256.{image.sha256[:12]}"
    filename = f"{container.name}_{label}.sif"
    key = blob_key(entity.name, collection.name, container.name, image.sha256)
    store = direct.store_of(registry)
    location = store.sign_read(key, method=method, filename=filename) if store else ""
    if method == "GET":
        registry.downloads.add(image.id)
    if location:
        return location
    link = BlobLink(
        key=key,
        sha256=image.sha256,
        size=image.size,
        filename=filename,
        expires=registry.now + int(registry.settings.registry.link_s),
    )
    return registry.url(BLOB_PREFIX + seal(registry.secret, link))


def write_downloads(registry: Registry) -> None:
    """Put the downloads counted so far into the database."""
    counted = registry.downloads.take()
    if not counted:
        return
    try:
        with registry.database.write() as db:
            images.count_downloads(db, counted)
    except GatewayError:
        registry.downloads.put_back(counted)
        raise
