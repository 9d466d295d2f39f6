"""Owns the queries about webhooks and their deliveries."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, or_, select, update

from registry_core.repo.accounts import changed_rows, inserted_id
from registry_core.repo.schema import collections, deliveries, entities, webhooks

_RETIRED: Final = ""  # the events of a webhook whose collection is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """``collection`` reads entity/collection, "" = all of them. ``events`` are separated by spaces."""

    id: int
    url: str
    events: str
    collection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery whose time has come."""

    id: int
    webhook_id: int
    url: str
    secret: str
    event: str
    body: str
    attempts: int


def wanting(db: Connection, event: str, collection_id: int | None) -> list[int]:
    """The webhooks that want to hear of ``event`` in this collection."""
    found = select(webhooks.c.id, webhooks.c.events).where(
        or_(webhooks.c.collection_id.is_(None), webhooks.c.collection_id == collection_id)
    )
    return [row.id for row in db.execute(found) if event in str(row.events).split()]


def all_hooks(db: Connection) -> list[Webhook]:
    found = (
        select(webhooks.c.id, webhooks.c.url, webhooks.c.events, entities.c.name, collections.c.name)
        .select_from(
            webhooks.outerjoin(collections, webhooks.c.collection_id == collections.c.id).outerjoin(
                entities, collections.c.entity_id == entities.c.id
            )
        )
        .order_by(webhooks.c.id)
    )
    return [
        Webhook(id=row[0], url=row[1], events=row[2], collection=f"{row[3]}/{row[4]}" if row[3] else "")
        for row in db.execute(found.where(webhooks.c.events != _RETIRED))
    ]


def add_hook(
    db: Connection, *, collection_id: int | None, url: str, secret: str, events: str, by: str, now: int
) -> int:
    """A new webhook's id."""
    columns = {"collection_id": collection_id, "url": url, "secret": secret, "events": events}
    return inserted_id(db.execute(insert(webhooks).values(**columns, created_by=by, created_at=now)))


def delete_hook(db: Connection, hook_id: int) -> bool:
    """False if there is none."""
    return changed_rows(db.execute(delete(webhooks).where(webhooks.c.id == hook_id))) > 0


def retire_hooks(db: Connection, collection_id: int) -> None:
    """The collection goes; its webhooks stay until what waits for them is delivered, and hear of nothing more."""
    db.execute(
        update(webhooks)
        .where(webhooks.c.collection_id == collection_id)
        .values(collection_id=None, events=_RETIRED)
    )


def delete_retired_hooks(db: Connection) -> None:
    """Those that nothing waits for any more."""
    waited_for = select(deliveries.c.webhook_id).where(deliveries.c.due_at.is_not(None))
    db.execute(delete(webhooks).where(webhooks.c.events == _RETIRED, webhooks.c.id.not_in(waited_for)))


def add_delivery(db: Connection, *, webhook_id: int, event: str, body: str, now: int) -> None:
    db.execute(
        insert(deliveries).values(
            webhook_id=webhook_id, event=event, body=body, attempts=0, due_at=now, created_at=now
        )
    )


def due(db: Connection, *, now: int, limit: int) -> list[Due]:
    """The deliveries whose time has come, oldest first."""
    found = (
        select(
            deliveries.c.id,
            deliveries.c.webhook_id,
            webhooks.c.url,
            webhooks.c.secret,
            deliveries.c.event,
            deliveries.c.body,
            deliveries.c.attempts,
        )
        .join_from(deliveries, webhooks, deliveries.c.webhook_id == webhooks.c.id)
        .where(deliveries.c.due_at <= now)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(limit)
    )
    return [
        Due(
            id=row[0],
            webhook_id=row[1],
            url=row[2],
            secret=row[3],
            event=row[4],
            body=row[5],
            attempts=row[6],
        )
        for row in db.execute(found)
    ]


def note_attempt(
    db: Connection, delivery_id: int, *, attempts: int, outcome: str, due_at: int | None
) -> None:
    """``due_at`` None = it is over, well or not."""
    db.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(attempts=attempts, outcome=outcome[:500], due_at=due_at)
    )


def delete_old_deliveries(db: Connection, *, before: int) -> None:
    db.execute(delete(deliveries).where(deliveries.c.due_at.is_(None), deliveries.c.created_at < before))
