"""Owns the library push: the image row, permission for the bytes, the proof that they came."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from gateway.contract import SHA256_HEX, TRANSFER_PREFIX, Ticket, TicketKind, seal
from gateway.errors import BadForm, BlobMissing, Conflict, DigestMismatch, LengthMismatch, NotFound
from gateway.store.base import DistantStore
from gateway.store.keys import blob_key
from registry_core import policy
from registry_core.model import Image, Place, Upload
from registry_core.paths import container_path
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import catalog, images, journal
from registry_core.repo.schema import images as image_table
from registry_core.service import commits, direct, events, places, quota
from registry_core.service.tickets import expiry, new_upload_id

# S3 allows so many parts, and clients number them so.
MOST_PARTS: Final = 10_000
_PART_STEP: Final = 1 << 20
# A commit may arrive a moment after the answer to the last byte.
_WAIT_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.05
_MOST_BYTES: Final = 1 << 50
# With this in its query, clients add the digest of the body as a header (library-protocol 4.1).
_ASK_DIGEST: Final = "?X-Amz-SignedHeaders=x-amz-content-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How a large image comes: ``total`` parts of ``size`` bytes, the last one smaller."""

    upload_id: str
    total: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What the client is told at the end."""

    usage: quota.Usage
    container_path: str


def make_image(
    registry: Registry, actor: Actor | None, *, container_id: int, sha256: str, description: str = ""
) -> tuple[Place, Image]:
    """The image's row, new or as it was. Its bytes need not come if they are stored and the asker may pull them.

    Raises: Unauthorized, Forbidden, NotFound, Conflict, QuotaExceeded.
    """
    actor = policy.require_user(actor)
    with registry.database.write() as db:
        registry.database.share_store(db)
        place = catalog.place_of_container(db, actor, container_id)
        places.require(registry, actor, place, "push")
        _entity, _collection, container = places.whole(place)
        if container.read_only:
            raise Conflict(f"The container {container.name} is read-only.")
        image = images.by_digest(db, container.id, sha256)
        if image is None:
            image = commits.add_image(
                registry, db, container=container, sha256=sha256, description=description, by=actor.name
            )
        if not image.uploaded:
            image = _share_bytes(registry, db, actor, place, image)
    return place, image


def _share_bytes(registry: Registry, db: Connection, actor: Actor, place: Place, image: Image) -> Image:
    """Use bytes that are already stored, if ``actor`` could pull them: knowing a digest grants nothing."""
    visible = catalog.visible_to(actor, anonymous_pull=registry.anonymous_pull)
    same = images.places_of(db, (image_table.c.sha256 == image.sha256) & visible, limit=1)
    if not same:
        return image
    source = same[0][3]
    entity, collection, container = places.whole(place)
    catalog.lock_entity(db, entity.id)
    quota.room_for(registry, db, entity, collection, source.size, by=actor.name)
    key = blob_key(entity.name, collection.name, container.name, image.sha256)
    if not registry.store.link(sha256=image.sha256, key=key):
        return image
    images.change_image(
        db,
        image.id,
        size=source.size,
        uploaded=True,
        arch=source.arch,
        signed=source.signed,
        fingerprints=source.fingerprints,
        updated_at=registry.now,
    )
    journal.forget_trash_key(db, key)
    what = f"{entity.name}/{collection.name}/{container.name}:sha256.{image.sha256}"
    journal.add_line(
        db,
        at=registry.now,
        actor=actor.name,
        action="image.push",
        what=what,
        detail="bytes were here already",
    )
    events.note(registry, db, "push", collection_id=collection.id, what=what, by=actor.name, size=source.size)
    return images.by_id(db, image.id) or image


def begin_single(registry: Registry, actor: Actor | None, image_id: int, *, size: int, sha256: str) -> str:
    """The URL that takes the whole image.

    Raises: NotFound, Unauthorized, Forbidden, QuotaExceeded, DigestMismatch, StoreDown.
    """
    with registry.database.read() as db:
        place, image = places.place_of_image(registry, db, actor, image_id, "push")
        _check_size(size)
        entity, collection, _container = places.whole(place)
        room = quota.room_for(registry, db, entity, collection, size, by=policy.require_user(actor).name)
    if sha256 and sha256.lower() != image.sha256:
        raise DigestMismatch(f"The image was announced as {image.sha256}, and now as {sha256[:64]}.")
    # Here, where the client shows the sentence: of a refused PUT it does not even read the body.
    _require_store(registry)
    store = direct.store_of(registry)
    if store is not None:
        direct.check_one_piece(store, size)
        upload_id = new_upload_id()
        with registry.database.write() as db:
            _add_upload(registry, db, actor, image, upload_id, size=size, part_size=size)
        store.begin_direct(upload_id)
        # Who tells the digest here sends it with the bytes too, where the link says so.
        return store.sign_part(upload_id, number=1, sha256=sha256.lower())
    ticket = _ticket(
        registry, actor, place, image, kind="image", upload_id=new_upload_id(), size=size, room=room
    )
    return _transfer_url(registry, ticket) + _ASK_DIGEST


def begin_parts(registry: Registry, actor: Actor | None, image_id: int, *, size: int) -> Parts:
    """An upload in parts that belongs to ``actor``.

    Raises: NotFound, Unauthorized, Forbidden, QuotaExceeded, StoreDown.
    """
    storage = registry.settings.storage
    if storage.kind == "s3" and not storage.s3.multipart_upload:
        raise NotFound("This registry takes images in one piece.")
    _check_size(size)
    with registry.database.read() as db:  # nobody else may make us ask S3
        places.place_of_image(registry, db, actor, image_id, "push")
    _require_store(registry)
    store = direct.store_of(registry)
    least = store.least_part_bytes if store else 1
    with registry.database.write() as db:
        place, image = places.place_of_image(registry, db, actor, image_id, "push")
        entity, collection, _container = places.whole(place)
        quota.room_for(registry, db, entity, collection, size, by=policy.require_user(actor).name)
        part_size = choose_part_size(size, max(least, registry.settings.registry.part_bytes))
        upload_id = new_upload_id()
        _add_upload(registry, db, actor, image, upload_id, size=size, part_size=part_size)
    if store is not None:
        store.begin_direct(upload_id)
    return Parts(upload_id=upload_id, total=-(-size // part_size), size=part_size)


def _require_store(registry: Registry) -> None:
    """Raises: StoreDown, at once."""
    store = registry.store
    if isinstance(store, DistantStore):
        # Anew: it is the gateway that hears of the store all the time, not we.
        store.require_up(anew=True)


def _add_upload(
    registry: Registry,
    db: Connection,
    actor: Actor | None,
    image: Image,
    upload_id: str,
    *,
    size: int,
    part_size: int,
) -> None:
    images.add_upload(
        db,
        id=upload_id,
        image_id=image.id,
        user_id=policy.require_user(actor).user_id,
        size=size,
        part_size=part_size,
        created_at=registry.now,
    )


def choose_part_size(size: int, wanted: int) -> int:
    """At most ``MOST_PARTS`` parts, each a whole number of MiB when it must be larger than ``wanted``."""
    wanted = max(1, wanted)
    if size <= wanted * MOST_PARTS:
        return wanted
    least = -(-size // MOST_PARTS)
    return -(-least // _PART_STEP) * _PART_STEP


def part_url(
    registry: Registry,
    actor: Actor | None,
    image_id: int,
    *,
    upload_id: str,
    number: int,
    size: int,
    sha256: str,
) -> str:
    """The URL that takes one part. Raises: NotFound, Unauthorized, Forbidden, BadForm, LengthMismatch."""
    with registry.database.read() as db:
        place, image = places.place_of_image(registry, db, actor, image_id, "push")
        upload = _own_upload(db, actor, image, upload_id)
    total = -(-upload.size // upload.part_size)
    if not 1 <= number <= total:
        raise BadForm(f"There is no part {number}: this upload has {total} parts.")
    expected = min(upload.part_size, upload.size - (number - 1) * upload.part_size)
    if size not in (expected, 0):
        raise LengthMismatch(f"Part {number} has {expected} bytes, not {size}.")
    if sha256 and not SHA256_HEX.fullmatch(sha256.lower()):
        raise BadForm("The field 'sha256sum' must have 64 hex digits.")
    store = direct.store_of(registry)
    if store is not None:
        return store.sign_part(upload.id, number=number, sha256=sha256.lower())
    ticket = _ticket(
        registry,
        actor,
        place,
        image,
        kind="part",
        upload_id=upload.id,
        size=upload.size,
        room=upload.size,
        part_number=number,
        part_size=upload.part_size,
        part_sha256=sha256.lower(),
    )
    return _transfer_url(registry, ticket)


def finish(
    registry: Registry,
    actor: Actor | None,
    image_id: int,
    *,
    upload_id: str = "",
    etags: Mapping[int, str] | None = None,
) -> Finished:
    """The end of a push: the bytes must be there, verified. ``etags`` are those of the parts that the client lists.

    Raises: NotFound, Unauthorized, Forbidden, Conflict, and from S3 DigestMismatch, LengthMismatch, StoreDown.
    """
    _deliver(registry, actor, image_id, upload_id=upload_id, etags=etags or {})
    deadline = time.monotonic() + _WAIT_S
    while True:
        with registry.database.read() as db:
            place, image = places.place_of_image(registry, db, actor, image_id, "push")
            upload = _own_upload(db, actor, image, upload_id) if upload_id else None
            if image.uploaded or time.monotonic() >= deadline:
                break
        time.sleep(_LOOK_EVERY_S)
    if upload is not None:
        _check_listed(upload, etags or {})
    if not image.uploaded:
        raise Conflict(
            "The image has not arrived whole, or its SHA-256 was not the promised one. Push again."
        )
    if upload is not None and upload.size != image.size:
        raise LengthMismatch(f"{upload.size} bytes were promised and {image.size} arrived. Push again.")
    entity, collection, container = places.whole(place)
    if upload is not None:
        with registry.database.write() as db:
            images.delete_upload(db, upload.id)
    with registry.database.read() as db:
        usage = quota.shown(registry, db, entity, collection)
    return Finished(
        usage=usage, container_path=container_path(entity.name, collection.name, container.name).lstrip("/")
    )


def _check_listed(upload: Upload, etags: Mapping[int, str]) -> None:
    total = -(-upload.size // upload.part_size)
    if len(etags) != total:
        raise BadForm(f"The upload has {total} parts, and {len(etags)} were listed.")


def _deliver(
    registry: Registry, actor: Actor | None, image_id: int, *, upload_id: str, etags: Mapping[int, str]
) -> None:
    """Take over what the client brought to S3 by itself, if it did."""
    store = direct.store_of(registry)
    if store is None:
        return
    with registry.database.read() as db:
        place, image = places.place_of_image(registry, db, actor, image_id, "push")
        if upload_id:
            uploads: Sequence[Upload] = (_own_upload(db, actor, image, upload_id),)
            _check_listed(uploads[0], etags)
        else:
            owner = policy.require_user(actor).user_id
            uploads = [one for one in images.uploads_of(db, image.id, owner) if one.size <= one.part_size]
    if image.uploaded:  # by somebody who was faster
        for upload in uploads:
            store.discard_staged(upload.id)
        return
    if not uploads:
        return
    ticket = _ticket(
        registry,
        actor,
        place,
        image,
        kind="image",
        upload_id=uploads[0].id,
        size=uploads[0].size,
        room=None,
    )
    try:
        direct.deliver(registry, store, ticket, uploads, etags=etags)
    except BlobMissing as exc:
        raise Conflict("The image has not arrived whole. Push again.", detail=str(exc)) from exc


def abort(registry: Registry, actor: Actor | None, image_id: int, *, upload_id: str) -> None:
    """Give up an upload in parts; what came of it is removed. Raises: NotFound, Unauthorized, Forbidden."""
    with registry.database.write() as db:
        _place, image = places.place_of_image(registry, db, actor, image_id, "push")
        upload = _own_upload(db, actor, image, upload_id)
        images.delete_upload(db, upload.id)
    registry.store.discard_staged(upload.id)


def _check_size(size: int) -> None:
    if not 0 < size < _MOST_BYTES:
        raise BadForm("The field 'filesize' must be the image's size in bytes.")


def _own_upload(db: Connection, actor: Actor | None, image: Image, upload_id: str) -> Upload:
    upload = images.upload_by_id(db, upload_id[:64])
    if upload is None or upload.image_id != image.id or actor is None or upload.user_id != actor.user_id:
        raise NotFound("There is no such upload of yours, or it has ended. Push again.")
    return upload


def _ticket(
    registry: Registry,
    actor: Actor | None,
    place: Place,
    image: Image,
    *,
    kind: TicketKind,
    upload_id: str,
    size: int,
    room: int | None,
    part_number: int = 0,
    part_size: int = 0,
    part_sha256: str = "",
) -> Ticket:
    entity, collection, container = places.whole(place)
    return Ticket(
        kind=kind,
        id=upload_id,
        entity=entity.name,
        collection=collection.name,
        container=container.name,
        image_id=str(image.id),
        user=policy.require_user(actor).name,
        max_bytes=room or 0,
        sha256=image.sha256,
        size=size,
        part_number=part_number,
        part_size=part_size,
        part_sha256=part_sha256,
        expires=expiry(registry),
    )


def _transfer_url(registry: Registry, ticket: Ticket) -> str:
    return registry.url(TRANSFER_PREFIX + seal(registry.secret, ticket))
