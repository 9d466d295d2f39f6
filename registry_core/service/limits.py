"""Owns setting quotas."""

from gateway.contract import parse_collection
from gateway.errors import BadForm, NotFound
from registry_core import policy
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import catalog, journal


def set_quota(registry: Registry, actor: Actor | None, path: str, size: int) -> None:
    """Bytes that ``entity/collection`` or ``entity`` may hold; 0 = no limit of its own.

    Raises: Unauthorized, Forbidden, NotFound, BadForm.
    """
    administrator = policy.require_administrator(actor)
    if size < 0:
        raise BadForm("A quota is a number of bytes, 0 for none.")
    names = parse_collection(path) if "/" in path else (path.strip().lower(), "")
    with registry.database.write() as db:
        place = catalog.place_by_names(db, actor, *names)
        if place.entity is None or (names[1] and place.collection is None):
            raise NotFound(f"There is no '{path}'.")
        if place.collection is not None:
            catalog.change_collection(db, place.collection.id, quota_bytes=size)
        else:
            catalog.change_entity(db, place.entity.id, quota_bytes=size)
        journal.add_line(
            db, at=registry.now, actor=administrator.name, action="quota", what=path, detail=str(size)
        )
