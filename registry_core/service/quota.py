"""Owns how many bytes an entity and a collection may hold."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from registry_core.errors import QuotaExceeded, Refusal
from registry_core.model import Collection, Entity
from registry_core.registry import Registry
from registry_core.repo import images
from registry_core.service import events

_STEP: Final = 1024
# A form is a little larger than the file in it; what really comes is checked against the ticket anyway.
FORM_SLACK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """``total`` 0 = no limit. ``where`` names what has the limit."""

    where: str
    total: int
    used: int

    @property
    def room(self) -> int | None:
        """Bytes left, None = no limit."""
        return None if not self.total else max(0, self.total - self.used)


def usages(
    registry: Registry, db: Connection, entity: Entity, collection: Collection | None
) -> tuple[Usage, ...]:
    """The limits that apply, the entity's first."""
    used, by_collection = images.used_bytes(db, entity_id=entity.id)
    total = entity.quota_bytes or registry.settings.registry.quota_bytes
    found = [Usage(where=entity.name, total=total, used=used)]
    if collection is not None and collection.quota_bytes:
        found.append(
            Usage(
                where=f"{entity.name}/{collection.name}",
                total=collection.quota_bytes,
                used=by_collection.get(collection.id, 0),
            )
        )
    return tuple(found)


def shown(registry: Registry, db: Connection, entity: Entity, collection: Collection | None) -> Usage:
    """What a client is told: the limit with the least room."""
    found = usages(registry, db, entity, collection)
    limited = [usage for usage in found if usage.room is not None]
    return min(limited, key=lambda usage: usage.room or 0) if limited else found[0]


def room_for(
    registry: Registry,
    db: Connection,
    entity: Entity | None,
    collection: Collection | None,
    size: int,
    *,
    by: str,
) -> int | None:
    """How many bytes may still come, None = no limit. ``by`` is who wants to push.

    Raises: QuotaExceeded when ``size`` (-1 = not known) is more.
    """
    if entity is None:
        total = registry.settings.registry.quota_bytes
        found: tuple[Usage, ...] = (Usage(where="this entity", total=total, used=0),) if total else ()
    elif not (
        entity.quota_bytes
        or registry.settings.registry.quota_bytes
        or (collection and collection.quota_bytes)
    ):
        return None
    else:
        found = usages(registry, db, entity, collection)
    room: int | None = None
    for usage in found:
        left = usage.room
        if left is None:
            continue
        if left == 0 or size > left:
            raise _exceeded(usage, entity, collection, size=size, by=by)
        room = left if room is None else min(room, left)
    return room


def _exceeded(
    usage: Usage, entity: Entity | None, collection: Collection | None, *, size: int, by: str
) -> QuotaExceeded:
    exc = QuotaExceeded(_sentence(usage, size))
    exc.refusal = Refusal(
        collection_id=collection.id if collection else None,
        where=f"{entity.name}/{collection.name}" if entity and collection else usage.where,
        by=by,
        size=max(0, size),
    )
    return exc


def tell(registry: Registry, refusal: Refusal) -> None:
    """Let webhooks know, after the transaction that was given up. Raises: DatabaseDown, TryAgain."""
    key = f"{refusal.where} {refusal.by}"
    if registry.refusals.get(key):
        return
    registry.refusals.put(key, True)
    with registry.database.write() as db:
        events.note(
            registry,
            db,
            "quota",
            collection_id=refusal.collection_id,
            what=refusal.where,
            by=refusal.by,
            size=refusal.size,
        )


def _sentence(usage: Usage, size: int) -> str:
    more = f"; this needs {human(size)} more" if size > 0 else ""
    return f"Quota exceeded: {human(usage.used)} of {human(usage.total)} used in {usage.where}{more}."


def human(size: int) -> str:
    """A size for people."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < _STEP:
            return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= _STEP
    return f"{amount:.1f} TiB"
