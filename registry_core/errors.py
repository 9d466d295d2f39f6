"""Owns the failures that only the registry knows; all others are ``gateway.errors``."""

from gateway.errors import BodyTooLarge, Conflict


class QuotaExceeded(BodyTooLarge):
    """An entity or a collection would hold more bytes than it may."""

    code = "quota_exceeded"
    default_message = "The quota is used up."


class FrozenTag(Conflict):
    """A tag that was frozen keeps its image for ever."""

    code = "frozen_tag"
    default_message = "This tag is frozen."


class DatabaseTrouble(Exception):
    """The database cannot be used by a command; the sentence says why."""
