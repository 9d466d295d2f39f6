"""Owns how values read on pages: sizes, times, digests, counts."""

import re
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup, escape

from registry_core.service.quota import human

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_MONTH_S: Final = 30 * _DAY_S
_YEAR_S: Final = 365 * _DAY_S
_SPANS: Final = (
    (_YEAR_S, "year"),
    (_MONTH_S, "month"),
    (_DAY_S, "day"),
    (_HOUR_S, "hour"),
    (_MINUTE_S, "minute"),
)
_SHORT_DIGEST: Final = 12
_DIGEST: Final = re.compile(r"\b[0-9a-f]{64}\b")


def size(count: int) -> Markup:
    """A size for people, with the exact number for those who point at it."""
    text = human(count)
    if text.endswith("bytes"):
        return Markup("<span>{}</span>").format(text)
    return Markup('<span title="{:,} bytes">{}</span>').format(count, text)


def iso(at: float) -> str:
    """A time for machines."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact(at: float) -> str:
    """A time for people who need to know."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def moment(at: float) -> Markup:
    """An exact time that scripts can read, too."""
    return Markup('<time datetime="{}">{}</time>').format(iso(at), exact(at))


def field_time(at: float) -> str:
    """A time as ``<input type="datetime-local">`` has it; ours are UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M")


def span(seconds: float) -> str:
    """How long, in its largest unit."""
    for unit_s, unit in _SPANS:
        if seconds >= unit_s:
            number = int(seconds // unit_s)
            return plural(number, unit)
    return "a moment"


def ago(at: float | None, now: float) -> Markup:
    """A moment relative to now; the exact time is in its title (a script turns it into local time)."""
    if at is None:
        return Markup("never")
    distance = now - at
    if abs(distance) < _MINUTE_S:
        text = "just now" if distance >= 0 else "in a moment"
    else:
        text = f"{span(distance)} ago" if distance > 0 else f"in {span(-distance)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(at), exact(at), text)


def plural(number: int, noun: str, nouns: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def short(sha256: str) -> str:
    """The beginning of a digest: enough to compare by eye."""
    return sha256[:_SHORT_DIGEST]


def brief(text: str) -> Markup:
    """A text whose digests are shortened; the whole of it is in its title."""
    shortened = _DIGEST.sub(lambda found: short(found[0]) + "…", text)
    if shortened == text:
        return escape(text)
    return Markup('<span title="{}">{}</span>').format(text, shortened)
