"""Owns what happens when bytes have arrived: the image is listed, its tag moved, the answer remembered."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from gateway.contract import Commit, CommittedImage, Ticket, open_ticket, parse_tag
from gateway.errors import BadForm, BlobMissing, Conflict, DigestMismatch, Forbidden, LengthMismatch
from gateway.store.keys import blob_key
from registry_core import sif
from registry_core.model import Container, Image, Place
from registry_core.names import DEFAULT_ARCH, DEFAULT_TAG, ImageRef, container_name
from registry_core.paths import image_path
from registry_core.registry import Registry
from registry_core.repo import catalog, images, journal
from registry_core.service import events, identity, places, quota
from registry_core.service.tickets import refuse_frozen

_FORMS: Final = ("web", "spooled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One file of a commit, looked at: its container, its key in the store, and its SIF head if it has one."""

    image: CommittedImage
    container: str
    tag: str
    key: str
    head: sif.SifHead | None

    @property
    def arch(self) -> str:
        return self.head.arch if self.head and self.head.arch else DEFAULT_ARCH


def commit(registry: Registry, told: Commit) -> dict[str, Any]:
    """List what the store now holds. The same ticket always gets the same answer.

    Raises: NotFound (ticket), DigestMismatch, LengthMismatch, BlobMissing, QuotaExceeded, FrozenTag, Conflict.
    """
    ticket = open_ticket(registry.secret, told.ticket, now=None)
    with registry.database.read() as db:
        answer = images.commit_answer(db, ticket.id)
    if answer is not None:
        return _parsed(answer)
    if not told.images:
        raise BadForm("A commit names at least one image.")
    arrivals = [_look_at(registry, ticket, image) for image in told.images]
    with registry.database.write() as db:
        registry.database.share_store(db)
        answer = images.commit_answer(db, ticket.id) or _commit(registry, db, ticket, arrivals)
    return _parsed(answer)


def _parsed(answer: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(answer)
    return value


def _look_at(registry: Registry, ticket: Ticket, image: CommittedImage) -> Arrival:
    if ticket.sha256 and image.sha256 != ticket.sha256:
        raise DigestMismatch(
            f"The bytes that arrived have the SHA-256 {image.sha256}, promised was {ticket.sha256}. Push again."
        )
    if ticket.size >= 0 and image.size != ticket.size:
        raise LengthMismatch(f"{ticket.size} bytes were promised and {image.size} arrived. Push again.")
    container = ticket.container or container_name(image.name, image.filename)
    tag = parse_tag(image.tag.strip() or DEFAULT_TAG) if ticket.kind in _FORMS else ""
    key = blob_key(ticket.entity, ticket.collection, container, image.sha256)
    head = None
    if image.size >= sif.HEADER_BYTES:
        _find_bytes(registry, key, image)
        head = sif.read_head(range_reader(registry, key))
    return Arrival(image=image, container=container, tag=tag, key=key, head=head)


def range_reader(registry: Registry, key: str) -> Callable[[int, int], bytes]:
    """Reads ranges of a stored blob."""

    def read(offset: int, length: int) -> bytes:
        with registry.store.open(key, offset=offset, length=length) as file:
            return file.read(length)

    return read


def _find_bytes(registry: Registry, key: str, image: CommittedImage) -> None:
    """Believe nobody: the store itself must say that the bytes are there, all of them."""
    try:
        stat = registry.store.stat(key)
    except BlobMissing:
        if not registry.store.link(sha256=image.sha256, key=key):
            raise
        stat = registry.store.stat(key)
    if stat.size != image.size:
        raise LengthMismatch(f"{image.size} bytes were announced, the store has {stat.size}.")


def _commit(registry: Registry, db: Connection, ticket: Ticket, arrivals: list[Arrival]) -> str:
    # Once more within the transaction: clean-up may have run since the first look.
    for arrival in arrivals:
        _find_bytes(registry, arrival.key, arrival.image)
    if ticket.kind == "spooled":
        _check_spooled(registry, db, ticket, arrivals)
    fill = _fill_form if ticket.kind in _FORMS else _fill_image
    listed = [fill(registry, db, ticket, arrival) for arrival in arrivals]
    answer = json.dumps({"images": listed})
    images.add_commit(db, ticket=ticket.id, answer=answer, now=registry.now)
    return answer


def _check_spooled(registry: Registry, db: Connection, ticket: Ticket, arrivals: list[Arrival]) -> None:
    """What ``tickets.grant`` would have looked at, had we been there. Raises: Forbidden, NotFound, Conflict."""
    if ticket.expires < registry.now:
        raise Forbidden("The upload waited for the registry longer than uploads are kept. Upload it again.")
    actor = identity.actor_of_credential(registry, db, ticket.credential)
    if actor is None or actor.name != ticket.user:
        raise Forbidden("The token or session of this upload was revoked or has expired while it waited.")
    for arrival in arrivals:
        places.require_push(
            registry,
            db,
            actor,
            entity=ticket.entity,
            collection=ticket.collection,
            container=arrival.container,
        )


def _fill_form(registry: Registry, db: Connection, ticket: Ticket, arrival: Arrival) -> dict[str, Any]:
    owner = catalog.user_id_by_name(db, ticket.user)
    entity = places.ensure_entity(registry, db, ticket.user, ticket.entity)
    collection = places.ensure_collection(
        registry, db, ticket.user, entity, ticket.collection, owner_id=owner
    )
    container = places.ensure_container(registry, db, ticket.user, collection, arrival.container)
    place = Place(entity=entity, collection=collection, container=container)
    if container.read_only:
        raise Conflict(f"The container {container.name} is read-only.")
    image = images.by_digest(db, container.id, arrival.image.sha256)
    if image is None:
        image = add_image(
            registry,
            db,
            container=container,
            sha256=arrival.image.sha256,
            description=arrival.image.description,
            by=ticket.user,
        )
    _mark_uploaded(registry, db, place, image, arrival, by=ticket.user)
    move_tag(
        registry,
        db,
        place,
        image_id=image.id,
        sha256=image.sha256,
        tag=arrival.tag,
        arch=arrival.arch,
        by=ticket.user,
    )
    ref = ImageRef(entity=entity.name, collection=collection.name, container=container.name, tag=arrival.tag)
    return _listed(registry, ref, arrival)


def _fill_image(registry: Registry, db: Connection, ticket: Ticket, arrival: Arrival) -> dict[str, Any]:
    image = images.by_id(db, int(ticket.image_id))
    if image is None or image.sha256 != arrival.image.sha256:
        raise Conflict("The image was deleted while it was being pushed. Push again.")
    place = catalog.place_of_container(db, None, image.container_id)
    entity, collection, container = places.whole(place)
    _mark_uploaded(registry, db, place, image, arrival, by=ticket.user)
    ref = ImageRef(
        entity=entity.name, collection=collection.name, container=container.name, sha256=image.sha256
    )
    return _listed(registry, ref, arrival)


def _listed(registry: Registry, ref: ImageRef, arrival: Arrival) -> dict[str, Any]:
    path = image_path(ref.entity, ref.collection, ref.container, arrival.image.sha256)
    return {
        "ref": str(ref),
        "sha256": arrival.image.sha256,
        "size": arrival.image.size,
        "url": registry.url(path),
    }


def add_image(
    registry: Registry, db: Connection, *, container: Container, sha256: str, description: str, by: str
) -> Image:
    """A new image whose bytes are still to come."""
    image_id = images.add_image(
        db,
        container_id=container.id,
        sha256=sha256,
        size=0,
        uploaded=False,
        arch=DEFAULT_ARCH,
        description=description[:4096],
        signed=None,
        fingerprints="",
        created_by=by,
        created_at=registry.now,
        updated_at=registry.now,
    )
    made = images.by_id(db, image_id)
    assert made is not None  # noqa: S101 – just inserted
    return made


def _mark_uploaded(
    registry: Registry, db: Connection, place: Place, image: Image, arrival: Arrival, *, by: str
) -> None:
    if not image.uploaded:
        # Two uploads may have been promised the same room; the second to arrive does not get it.
        catalog.lock_entity(db, places.whole(place)[0].id)
        quota.room_for(registry, db, place.entity, place.collection, arrival.image.size, by=by)
    head = arrival.head
    images.change_image(
        db,
        image.id,
        size=arrival.image.size,
        uploaded=True,
        arch=arrival.arch,
        signed=head.signed if head else None,
        fingerprints=" ".join(head.fingerprints) if head else "",
        updated_at=registry.now,
    )
    entity, collection, container = places.whole(place)
    what = f"{entity.name}/{collection.name}/{container.name}:sha256.{image.sha256}"
    journal.forget_trash_key(db, arrival.key)
    journal.add_line(db, at=registry.now, actor=by, action="image.push", what=what)
    catalog.change_container(db, container.id, updated_at=registry.now)
    catalog.change_collection(db, collection.id, updated_at=registry.now)
    events.note(registry, db, "push", collection_id=collection.id, what=what, by=by, size=arrival.image.size)


def move_tag(
    registry: Registry,
    db: Connection,
    place: Place,
    *,
    image_id: int,
    sha256: str,
    tag: str,
    arch: str,
    by: str,
) -> None:
    """Let a tag name this image from now on. Raises: FrozenTag, BadForm."""
    _entity, _collection, container = places.whole(place)
    rows = images.tag_rows(db, container.id, tag)
    refuse_frozen(rows, container, image_id, arch=arch)
    if any(row.arch == arch and row.image_id == image_id for row in rows):
        return
    images.set_tag(
        db,
        container_id=container.id,
        name=tag,
        arch=arch,
        image_id=image_id,
        updated_by=by,
        updated_at=registry.now,
    )
    images.add_tag_move(
        db, container_id=container.id, name=tag, arch=arch, sha256=sha256, by=by, at=registry.now
    )
