"""Owns the core's hand on the maintenance switch: the two files in the data folder that the gateway watches.

The format is the gateway's (``gateway/maintenance.py``); a test lets the gateway read what is written here.
"""

import ipaddress
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.contract import parse_moment
from gateway.errors import BadForm, StoreError
from registry_core import policy
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import journal

STATE_FILE: Final = "maintenance.json"
FLAG_FILE: Final = "maintenance.flag"
MODES: Final = ("full", "read-only", "uploads-off")
_MOST_MESSAGE: Final = 2000
_FARTHEST_S: Final = 10 * 366 * 86_400  # a year that was mistyped; its end may be none that pages can show
_TYPING_S: Final = 300  # who typed the present time and then read the form again means now


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """A maintenance; times in epoch seconds. ``at`` is when it begins, 0 = it has."""

    mode: str = "full"
    message: str = ""
    until: float | None = None
    allow: tuple[str, ...] = ()
    since: float = 0.0
    at: float = 0.0

    def is_on(self, now: float) -> bool:
        """Whether it has begun."""
        return self.at <= now


def current(registry: Registry) -> Maintenance | None:
    """The maintenance that is on now, whoever began it."""
    told = _told(registry)
    return told if told is not None and told.is_on(registry.clock()) else _flagged(registry)


def planned(registry: Registry) -> Maintenance | None:
    """What is on now, or else what will be: a flag closes at once, whatever is planned."""
    return current(registry) or _told(registry)


def _told(registry: Registry) -> Maintenance | None:
    try:
        return _parse((registry.settings.data_dir / STATE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except OSError:
        return Maintenance()


def _flagged(registry: Registry) -> Maintenance | None:
    try:
        said = (registry.settings.data_dir / FLAG_FILE).read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError:
        return Maintenance()
    return Maintenance(message=said[:_MOST_MESSAGE])


def _parse(content: bytes) -> Maintenance:
    """What cannot be understood counts as a full maintenance, as it does for the gateway."""
    try:
        value: dict[str, Any] = json.loads(content)
        until = value.get("until")
        return Maintenance(
            mode=str(value.get("mode", "full")),
            message=str(value.get("message", "")),
            until=parse_moment(until) if until is not None else None,
            allow=tuple(str(network) for network in value.get("allow", ())),
            since=parse_moment(value.get("since", 0.0)),
            at=parse_moment(value.get("at", 0.0)),
        )
    except (ValueError, TypeError, AttributeError):
        return Maintenance()


def turn_on(
    registry: Registry,
    actor: Actor | None,
    *,
    mode: str,
    message: str,
    hours: float | None,
    allow: Sequence[str],
    at: str = "",
) -> None:
    """Begin a maintenance, plan it, or change the one that is known.

    ``at`` is ISO 8601, without an offset in UTC; "" = now. Raises: Unauthorized, Forbidden, BadForm, StoreError.
    """
    actor = policy.require_administrator(actor)
    if mode not in MODES:
        raise BadForm("The mode of a maintenance is full, read-only or uploads-off.")
    try:
        networks = [str(ipaddress.ip_network(one, strict=False)) for one in allow]
    except ValueError as exc:
        raise BadForm(f"Addresses that pass are written like 192.0.2.7 or 192.0.2.0/24: {exc}.") from exc
    begin = _begin(registry, at)
    running = current(registry)
    value = {
        "mode": mode,
        "message": message[:_MOST_MESSAGE],
        "at": begin,
        "until": None if hours is None else (begin or registry.now) + hours * 3600,
        "allow": networks,
        "since": running.since if running else registry.clock(),
    }
    try:
        _write(registry.settings.data_dir / STATE_FILE, json.dumps(value, indent=1))
    except OSError as exc:
        raise StoreError("The switch cannot be written to the data folder.", detail=str(exc)) from exc
    _note(registry, actor, "maintenance.plan" if begin else "maintenance.on", mode)


def _begin(registry: Registry, text: str) -> float:
    """The planned beginning, 0 = now. Raises: BadForm."""
    if not text:
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as exc:
        raise BadForm("The beginning is a date and a time, like 2026-12-01T14:00 (UTC).") from exc
    if at < registry.now - _TYPING_S:
        raise BadForm("The beginning lies in the past. Times here are UTC.")
    if at > registry.now + _FARTHEST_S:
        raise BadForm("The beginning is more than ten years away.")
    return at if at > registry.now else 0.0


def turn_off(registry: Registry, actor: Actor | None) -> None:
    """End the maintenance. Raises: Unauthorized, Forbidden, StoreError."""
    actor = policy.require_administrator(actor)
    folder = registry.settings.data_dir
    try:
        (folder / STATE_FILE).unlink(missing_ok=True)
        (folder / FLAG_FILE).unlink(missing_ok=True)
    except OSError as exc:
        raise StoreError("The switch cannot be removed from the data folder.", detail=str(exc)) from exc
    _note(registry, actor, "maintenance.off", "")


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _note(registry: Registry, actor: Actor, action: str, detail: str) -> None:
    with registry.database.write() as db:
        journal.add_line(db, at=registry.now, actor=actor.name, action=action, what="registry", detail=detail)
