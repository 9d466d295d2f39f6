"""Owns permission for uploads that the gateway asks about: who, where to, how many bytes."""

import secrets

from gateway.contract import Ticket, TicketQuestion, parse_collection, parse_name, parse_tag, seal
from gateway.errors import Unauthorized
from registry_core.errors import FrozenTag
from registry_core.model import Container, Tag
from registry_core.policy import CHALLENGE, Actor
from registry_core.registry import Registry
from registry_core.repo import images
from registry_core.service import identity, places, quota


def new_upload_id() -> str:
    """Unguessable, and fit for a staging name."""
    return secrets.token_hex(16)


def grant(registry: Registry, question: TicketQuestion) -> tuple[str, str]:
    """A sealed ticket, and the name of the credential by which it was given.

    Raises: Unauthorized, Forbidden, NotFound, BadForm, QuotaExceeded, FrozenTag.
    """
    actor = identity.authenticate(registry, authorization=question.authorization, cookie=question.cookie)
    if actor is None:
        raise Unauthorized(headers=CHALLENGE)
    if question.image_id:
        return _grant_image(registry, actor, question), ""
    identity.check_csrf(actor, question.csrf_token)
    return _grant_form(registry, actor, question), identity.credential_of(actor)


def _grant_form(registry: Registry, actor: Actor, question: TicketQuestion) -> str:
    entity, collection = parse_collection(question.collection)
    container = parse_name(question.name, "container") if question.name.strip() else ""
    tag = parse_tag(question.tag) if question.tag.strip() else "latest"
    with registry.database.read() as db:
        place = places.require_push(
            registry, db, actor, entity=entity, collection=collection, container=container
        )
        if place.container is not None:
            refuse_frozen(images.tag_rows(db, place.container.id, tag), place.container)
        size = question.declared_bytes
        room = quota.room_for(
            registry, db, place.entity, place.collection, max(1, size - quota.FORM_SLACK_BYTES), by=actor.name
        )
    return seal(
        registry.secret,
        Ticket(
            kind="web",
            id=new_upload_id(),
            entity=entity,
            collection=collection,
            user=actor.name,
            max_bytes=room or 0,
            expires=expiry(registry),
        ),
    )


def _grant_image(registry: Registry, actor: Actor, question: TicketQuestion) -> str:
    size = question.declared_bytes
    with registry.database.read() as db:
        place, image = places.place_of_image(registry, db, actor, places.parse_id(question.image_id), "push")
        entity, collection, container = places.whole(place)
        room = quota.room_for(registry, db, entity, collection, size, by=actor.name)
    return seal(
        registry.secret,
        Ticket(
            kind="image",
            id=new_upload_id(),
            entity=entity.name,
            collection=collection.name,
            container=container.name,
            image_id=str(image.id),
            user=actor.name,
            max_bytes=room or 0,
            sha256=image.sha256,
            size=size,
            expires=expiry(registry),
        ),
    )


def expiry(registry: Registry) -> int:
    """When a ticket made now ends."""
    return registry.now + int(registry.settings.registry.ticket_s)


def refuse_frozen(
    rows: list[Tag], container: Container, image_id: int | None = None, *, arch: str = ""
) -> None:
    """Refuse to move a frozen tag; naming again what it names is no move. Raises: FrozenTag.

    It is frozen whole: its images may not change places, and it gets none for one more architecture.
    """
    same = any(row.image_id == image_id and row.arch == arch for row in rows)
    if any(row.frozen for row in rows) and not same:
        raise FrozenTag(
            f"The tag '{rows[0].name}' of {container.name} is frozen. Choose another tag, or ask the owner."
        )
