"""Owns who may do what: one pure function that every route asks."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from gateway.errors import Forbidden, NotFound, Unauthorized
from registry_core.model import Place

type Need = Literal["pull", "push", "delete", "manage"]

CHALLENGE: Final = (("www-authenticate", 'Bearer realm="registry"'),)


class Scope(IntEnum):
    """What a token may be used for, whatever its owner may do. A browser session has ADMIN."""

    PULL = 1
    PUSH = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who proved who they are. ``csrf`` is set for browser sessions."""

    user_id: int
    name: str
    admin: bool
    scope: Scope
    token_id: int | None = None
    session_id: int | None = None
    csrf: str = ""

    @property
    def is_administrator(self) -> bool:
        """Whether this actor may administer the registry right now."""
        return self.admin and self.scope >= Scope.ADMIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What an actor may do in one place."""

    pull: bool = False
    push: bool = False
    delete: bool = False
    manage: bool = False


def rights(actor: Actor | None, place: Place, *, anonymous_pull: bool) -> Rights:
    """The rights of ``actor`` (None = nobody in particular) in the collection of ``place``.

    Where the collection does not exist, they are those in the entity: whoever owns that may make collections.
    """
    owner = actor is not None and (actor.admin or _owns(actor, place))
    public = place.collection is not None and not place.collection.private
    if actor is None:
        return Rights(pull=public and anonymous_pull)
    contributor = place.collection is not None and place.role == "contributor"
    reader = place.collection is not None and place.role == "reader"
    return Rights(
        pull=owner or contributor or reader or public,
        push=(owner or contributor) and actor.scope >= Scope.PUSH,
        # An owner's push token may remove what it may overwrite; a contributor may do neither.
        delete=owner and actor.scope >= Scope.PUSH,
        manage=owner and actor.scope >= Scope.ADMIN,
    )


def _owns(actor: Actor, place: Place) -> bool:
    owners = {
        place.entity.owner_id if place.entity else None,
        place.collection.owner_id if place.collection else None,
    }
    return actor.user_id in owners


def require(actor: Actor | None, place: Place, need: Need, *, anonymous_pull: bool) -> Rights:
    """The rights, if they contain ``need``.

    Raises: NotFound where the actor may not even know that something exists, Unauthorized, Forbidden.
    """
    granted = rights(actor, place, anonymous_pull=anonymous_pull)
    if getattr(granted, need):
        return granted
    if actor is None and (need != "pull" or not anonymous_pull):
        raise Unauthorized(headers=CHALLENGE)
    if not granted.pull:
        # One sentence for all of these: another for an entity that is there would tell which names are taken.
        raise NotFound("There is no such entity or collection, or you may not see it.")
    raise Forbidden(_refusal(actor, need))


def _refusal(actor: Actor | None, need: Need) -> str:
    what = {"pull": "pull from", "push": "push to", "delete": "delete from", "manage": "manage"}[need]
    least = {"pull": Scope.PULL, "push": Scope.PUSH, "delete": Scope.PUSH, "manage": Scope.ADMIN}[need]
    if actor is not None and actor.scope < least:
        return f"This token has the scope '{actor.scope.name.lower()}'; '{least.name.lower()}' is needed."
    return f"You may not {what} this collection. Ask its owner."


def require_administrator(actor: Actor | None) -> Actor:
    """The actor, if it is an administrator. Raises: Unauthorized, Forbidden."""
    if actor is None:
        raise Unauthorized(headers=CHALLENGE)
    if not actor.is_administrator:
        raise Forbidden("Only administrators may do this.")
    return actor


def require_user(actor: Actor | None) -> Actor:
    """The actor, whoever it is. Raises: Unauthorized."""
    if actor is None:
        raise Unauthorized(headers=CHALLENGE)
    return actor
