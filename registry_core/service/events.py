"""Owns telling webhooks: an event is written down in the transaction that it tells of, and delivered later."""

import json
from typing import Literal

from sqlalchemy import Connection

from registry_core.registry import Registry
from registry_core.repo import hooks

type Event = Literal["push", "delete", "quota"]


def note(
    registry: Registry,
    db: Connection,
    event: Event,
    *,
    collection_id: int | None,
    what: str,
    by: str,
    size: int,
) -> None:
    """Queue one delivery for every webhook that wants to know. ``collection_id`` None: only those of all."""
    wanted = hooks.wanting(db, event, collection_id)
    if not wanted:
        return
    body = json.dumps({"event": event, "image": what, "by": by, "size": size, "at": registry.now})
    for webhook_id in wanted:
        hooks.add_delivery(db, webhook_id=webhook_id, event=event, body=body, now=registry.now)
