"""Owns what ``gateway check`` finds: how bad it is, and the one remedy."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    ok = "ok"
    warn = "warn"
    fail = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the table. ``remedy`` says what to do; empty when all is well."""

    level: Level
    subject: str
    what: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {"level": self.level, "subject": self.subject, "what": self.what, "remedy": self.remedy}


def ok(subject: str, what: str) -> Finding:
    """All is well."""
    return Finding(level=Level.ok, subject=subject, what=what)


def warn(subject: str, what: str, remedy: str) -> Finding:
    """It works, but not as it should, or not for long."""
    return Finding(level=Level.warn, subject=subject, what=what, remedy=remedy)


def fail(subject: str, what: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(level=Level.fail, subject=subject, what=what, remedy=remedy)
