"""Owns the two calls to the core: ask for a ticket before the first byte, tell of a commit after the last."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from gateway.contract import (
    COMMITS_PATH,
    TICKETS_PATH,
    Commit,
    Ticket,
    TicketQuestion,
    open_ticket,
    sign_call,
)
from gateway.core_health import CoreHealth
from gateway.errors import CoreDown, CoreRefused, NotFound, UpstreamError, UpstreamProtocol
from gateway.forward.circuit import CircuitPolicy
from gateway.forward.circuits import Upstream
from gateway.http.head import Field, Fields
from gateway.settings import Core

log = logging.getLogger(__name__)

# Refusals that say nothing about the commit itself: our signature or clock, or a busy core. Bytes that are stored
# must not be thrown away for these.
_NOT_ABOUT_THE_COMMIT: Final = frozenset({401, 408, 421, 425, 429})
_PASSED_ON: Final = ("www-authenticate", "retry-after")
_LEAST_HTTP_ERROR: Final = 400
_LEAST_SERVER_ERROR: Final = 500
TELL_TIMEOUT_S: Final = 20.0
ASK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedReference:
    """An image as the core now lists it: its reference for pulls, digest, bytes, and page."""

    ref: str
    sha256: str
    size: int
    url: str


class CorePool(Protocol):
    """The part of ``forward.pool.UpstreamPool`` that is needed here."""

    def call(
        self, method: str, target: str, fields: tuple[Field, ...], body: bytes, *, timeout_s: float
    ) -> Coroutine[Any, Any, tuple[int, Fields, bytes]]:
        """One whole exchange. Raises: CoreDown, UpstreamTimeout, UpstreamProtocol."""
        ...


class StandIn(Protocol):
    """Somebody who knows what the core lately allowed (``gateway/spool.py``)."""

    def stands_in_for(self, client: str) -> bool:
        """Whether the core is not even to be asked."""
        ...

    def remember(self, question: TicketQuestion, ticket: Ticket, credential: str) -> None:
        """The core said yes."""
        ...

    def forget(self, question: TicketQuestion) -> None:
        """The core said no."""
        ...

    async def stand_in(self, question: TicketQuestion) -> tuple[Ticket, str]:
        """A ticket in the core's place. Raises: CoreDown."""
        ...

    def settle(self, ticket: Ticket) -> None:
        """The upload with this ticket is over, well or not."""
        ...


class CoreApi:
    """Signed calls to the core."""

    def __init__(
        self,
        pool: CorePool,
        secret: bytes,
        health: CoreHealth,
        settings: Core,
        *,
        upstream: Upstream | None = None,
        spool: StandIn | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._secret = secret
        self._health = health
        self._settings = settings
        self._upstream = upstream or Upstream("core", CircuitPolicy(max_fails=0))
        self._spool = spool
        self._clock = clock

    def take(self, settings: Core, spool: StandIn | None) -> None:
        """Newly read settings; calls under way go on with the old ones."""
        self._settings, self._spool = settings, spool

    async def ask(self, question: TicketQuestion, *, request_id: str) -> tuple[Ticket, str]:
        """May this upload begin? The ticket, opened, and the token that proves it.

        Raises: CoreRefused (with the core's own status), CoreDown, UpstreamError.
        """
        if self._spool is None:
            return (await self._ask(question, request_id))[:2]
        if self._spool.stands_in_for(question.client):
            return await self._spool.stand_in(question)
        try:
            ticket, token, credential = await self._ask(question, request_id)
        except CoreDown:
            return await self._spool.stand_in(question)
        except CoreRefused:
            self._spool.forget(question)
            raise
        self._spool.remember(question, ticket, credential)
        return ticket, token

    def settle(self, ticket: Ticket) -> None:
        """The upload with this ticket is over, well or not: whatever was kept free for it is free again."""
        if self._spool is not None:
            self._spool.settle(ticket)

    async def _ask(self, question: TicketQuestion, request_id: str) -> tuple[Ticket, str, str]:
        try:
            value = await self._ask_once(question, request_id)
        except UpstreamProtocol as exc:
            # Most likely the core is just ending, and its connections sooner than we hear of it. A question may
            # be asked twice; what is wrong with the core itself is wrong the second time too.
            log.info("%s: asking the core again: %s", request_id, exc)
            await asyncio.sleep(ASK_AGAIN_S)
            value = await self._ask_once(question, request_id)
        token = value.get("ticket")
        if not isinstance(token, str):
            raise UpstreamProtocol(detail="the core's answer has no ticket")
        try:
            return open_ticket(self._secret, token, now=None), token, str(value.get("credential", ""))
        except NotFound as exc:
            raise UpstreamProtocol(detail="the core's ticket is not signed with our secret") from exc

    async def _ask_once(self, question: TicketQuestion, request_id: str) -> dict[str, Any]:
        if not await self._health.wait_up(self._health.hold_s):
            raise CoreDown(detail="no ticket: the core is down")
        with self._upstream.attempt():
            return await self._call(
                TICKETS_PATH,
                asdict(question),
                request_id,
                timeout_s=self._settings.head_s,
                gives_up_when_down=True,
            )

    async def tell(self, commit: Commit, *, request_id: str) -> tuple[CommittedReference, ...]:
        """The store has these bytes. Idempotent by ticket, so it may be told again after any failure.

        Raises: CoreRefused only when the core has decided against the commit; CoreDown, UpstreamError otherwise.
        """
        try:
            value = await self._call(
                COMMITS_PATH,
                asdict(commit),
                request_id,
                timeout_s=TELL_TIMEOUT_S,
                gives_up_when_down=self._health.is_up,
            )
        except CoreRefused as exc:
            if exc.status in _NOT_ABOUT_THE_COMMIT or _is_for_strangers(exc):
                raise UpstreamError(
                    detail=f"the core cannot take commits: {exc.status} {exc.message}"
                ) from exc
            raise
        try:
            return tuple(
                CommittedReference(
                    ref=str(image["ref"]),
                    sha256=str(image["sha256"]),
                    size=int(image["size"]),
                    url=str(image["url"]),
                )
                for image in value["images"]
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise UpstreamProtocol(detail=f"the core's answer to a commit: {exc!r}") from exc

    async def _call(
        self, target: str, value: object, request_id: str, *, timeout_s: float, gives_up_when_down: bool
    ) -> dict[str, Any]:
        body = json.dumps(value, separators=(",", ":")).encode()
        fields = (
            ("host", "core"),
            ("content-type", "application/json"),
            ("x-request-id", request_id),
            *sign_call(self._secret, "POST", target, body, self._clock()),
        )
        answer = self._pool.call("POST", target, fields, body, timeout_s=timeout_s)
        if gives_up_when_down:
            status, head, content = await _race(answer, self._health.down)
        else:
            status, head, content = await answer
        self._health.note_alive()
        return _read_answer(status, head, content)


def _is_for_strangers(refusal: CoreRefused) -> bool:
    """Whether it is the answer to a call whose signature the core does not accept (another secret, a wrong clock)."""
    return refusal.status == NotFound.status and refusal.message == NotFound.default_message


async def _race[T](call: Coroutine[Any, Any, T], down: asyncio.Future[None]) -> T:
    """``call``, unless the core goes down before it answers. Raises: CoreDown."""
    task = asyncio.get_running_loop().create_task(call)
    try:
        await asyncio.wait((task, down), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CoreDown(detail="the core went down during the call")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


def _read_answer(status: int, head: Fields, content: bytes) -> dict[str, Any]:
    value = _json_object(content)
    if status < _LEAST_HTTP_ERROR:
        if value is None:
            raise UpstreamProtocol(detail=f"the core answered {status} without a JSON object")
        data = value.get("data", value)
        if not isinstance(data, dict):
            raise UpstreamProtocol(detail="the core's 'data' is not an object")
        return data
    error = (value or {}).get("error")
    if status >= _LEAST_SERVER_ERROR or not isinstance(error, dict) or "message" not in error:
        raise UpstreamProtocol(detail=f"the core answered {status}: {content[:200]!r}")
    headers = tuple((name, head.get(name)) for name in _PASSED_ON if head.has(name))
    raise CoreRefused(status, str(error["message"]), headers=headers)


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
