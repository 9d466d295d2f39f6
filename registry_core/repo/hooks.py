"""Owns the queries about webhooks and their deliveries."""

from typing import Any

from sqlalchemy import Connection, insert, or_, select

from registry_core.repo.schema import deliveries, webhooks


def wanting(db: Connection, event: str, collection_id: int) -> list[int]:
    """The webhooks that want to hear of ``event`` in this collection."""
    found = select(webhooks.c.id, webhooks.c.events).where(
        or_(webhooks.c.collection_id.is_(None), webhooks.c.collection_id == collection_id)
    )
    return [row.id for row in db.execute(found) if event in str(row.events).split()]


def add_delivery(db: Connection, *, webhook_id: int, event: str, body: str, now: int) -> None:
    columns: dict[str, Any] = {"attempts": 0, "due_at": now, "created_at": now}
    db.execute(insert(deliveries).values(webhook_id=webhook_id, event=event, body=body, **columns))
