"""Owns the failures that only the registry knows; all others are ``gateway.errors``."""

from dataclasses import dataclass

from gateway.errors import BodyTooLarge, Conflict, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A push for which there was no room: to where (``collection_id`` None = it was still to be made), whose."""

    collection_id: int | None
    where: str
    by: str
    size: int


class QuotaExceeded(BodyTooLarge):
    """An entity or a collection would hold more bytes than it may."""

    code = "quota_exceeded"
    default_message = "The quota is used up."
    refusal: Refusal | None = None


class FrozenTag(Conflict):
    """A tag that was frozen keeps its image for ever."""

    code = "frozen_tag"
    default_message = "This tag is frozen."


class UnknownToken(NotFound):
    """A bad token, at the one place where clients want to be told so by 404."""

    code = "unknown_token"


class DatabaseTrouble(Exception):
    """The database cannot be used by a command; the sentence says why."""
