"""Owns webhooks: making them, and delivering what ``events.py`` has written down, signed, until it arrives.

A delivery is ``POST`` of a JSON object with the headers ``X-Registry-Event``, ``X-Registry-Delivery`` (the same in
every attempt) and ``X-Registry-Signature``: ``sha256=`` and the HMAC of the body with the webhook's secret.
"""

import hmac
import logging
import secrets
from typing import Final
from urllib.parse import urlsplit

from gateway.contract import parse_collection
from gateway.errors import BadForm, NotFound, UpstreamError
from registry_core import policy
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo import catalog, hooks, journal
from registry_core.service import web

log = logging.getLogger(__name__)

EVENTS: Final = ("push", "delete", "quota")
# 10 s, 40 s, 160 s … 45 hours: a receiver may be away over a weekend.
MOST_ATTEMPTS: Final = 9
_FIRST_PAUSE_S: Final = 10
_PAUSE_GROWS: Final = 4
_AT_ONCE: Final = 20
_LEAST_SECRET: Final = 16
_SUCCESS: Final = range(200, 300)


def add(
    registry: Registry,
    actor: Actor | None,
    *,
    url: str,
    events: tuple[str, ...] = EVENTS,
    collection: str = "",
    secret: str = "",
) -> tuple[int, str]:
    """A webhook's id and its secret. Only administrators: the registry's own network is asked.

    Raises: Unauthorized, Forbidden, BadForm, NotFound.
    """
    administrator = policy.require_administrator(actor)
    if not _is_address(url):
        raise BadForm("The URL of a webhook begins with https:// or http:// and has a host.")
    if not events or not set(events) <= set(EVENTS):
        raise BadForm(f"A webhook hears of {', '.join(EVENTS)}.")
    if secret and len(secret) < _LEAST_SECRET:
        raise BadForm(f"A webhook's secret has at least {_LEAST_SECRET} characters.")
    secret = secret or secrets.token_urlsafe(32)
    with registry.database.write() as db:
        collection_id = None
        if collection:
            place = catalog.place_by_names(db, actor, *parse_collection(collection))
            if place.collection is None:
                raise NotFound(f"There is no collection {collection}.")
            collection_id = place.collection.id
        hook_id = hooks.add_hook(
            db,
            collection_id=collection_id,
            url=url,
            secret=secret,
            events=" ".join(events),
            by=administrator.name,
            now=registry.now,
        )
        journal.add_line(
            db, at=registry.now, actor=administrator.name, action="webhook.add", what=url, detail=collection
        )
    return hook_id, secret


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # What is not a port fails here, and not at every delivery.
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def all_hooks(registry: Registry, actor: Actor | None) -> list[hooks.Webhook]:
    """Raises: Unauthorized, Forbidden."""
    policy.require_administrator(actor)
    with registry.database.read() as db:
        return hooks.all_hooks(db)


def remove(registry: Registry, actor: Actor | None, hook_id: int) -> None:
    """Raises: Unauthorized, Forbidden, NotFound."""
    administrator = policy.require_administrator(actor)
    with registry.database.write() as db:
        if not hooks.delete_hook(db, hook_id):
            raise NotFound(f"There is no webhook {hook_id}.")
        journal.add_line(
            db, at=registry.now, actor=administrator.name, action="webhook.remove", what=str(hook_id)
        )


def deliver_due(registry: Registry) -> int:
    """Attempt every delivery whose time has come; how many arrived. Raises: DatabaseDown."""
    with registry.database.read() as db:
        waiting = hooks.due(db, now=registry.now, limit=_AT_ONCE)
    arrived = 0
    for one in waiting:
        outcome, done = _attempt(one)
        arrived += done
        attempts = one.attempts + 1
        again = None if done or attempts >= MOST_ATTEMPTS else registry.now + pause_s(attempts)
        if not done:
            log.warning(
                "webhook %d to %s, attempt %d: %s", one.webhook_id, masked(one.url), attempts, outcome
            )
        with registry.database.write() as db:
            hooks.note_attempt(db, one.id, attempts=attempts, outcome=outcome, due_at=again)
    return arrived


def masked(url: str) -> str:
    """The address without its path and query, which are the secret of many receivers, and without a password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" + ("/…" if parts.path.strip("/") or parts.query else "")


def pause_s(attempts: int) -> int:
    """Seconds to wait after so many attempts."""
    return int(_FIRST_PAUSE_S * _PAUSE_GROWS ** (attempts - 1))


def sign(secret: str, body: bytes) -> str:
    """What a receiver compares with its own computation."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


def _attempt(one: hooks.Due) -> tuple[str, bool]:
    body = one.body.encode()
    headers = {
        "content-type": "application/json",
        "x-registry-event": one.event,
        "x-registry-delivery": str(one.id),
        "x-registry-signature": sign(one.secret, body),
    }
    try:
        # No redirects are followed: what is signed is for the receiver that was named.
        status, _answer = web.exchange("POST", one.url, body, headers)
    except UpstreamError as exc:
        return exc.detail.replace(one.url, masked(one.url)), False
    return f"HTTP {status}", status in _SUCCESS
