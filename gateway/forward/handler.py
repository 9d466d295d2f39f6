"""Owns the story of a forwarded request: check, ask the upstream, stream the answer back."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, Protocol, runtime_checkable

from gateway.errors import (
    BodyTooLarge,
    ClientGone,
    CoreDown,
    GatewayError,
    MethodNotAllowed,
    UpstreamProtocol,
)
from gateway.forward.answer import SWITCHING
from gateway.forward.circuit import CircuitPolicy
from gateway.forward.circuits import Attempt, Upstream
from gateway.forward.connection import UpstreamConnection
from gateway.forward.origin import DialHold, Health, await_up
from gateway.forward.outgoing import Body
from gateway.forward.pool import UpstreamPool
from gateway.forward.response import UpstreamResponse
from gateway.forward.rewrite import allowed_trailers, answer_fields, request_head, upgrade_of
from gateway.forward.tunnel import Tunnel
from gateway.http.exchange import Exchange, RequestBody
from gateway.http.head import Chunked, Field, Fields, NoBody, Sized
from gateway.http.reply import Reply
from gateway.settings import Core, Limits

# A body of this size is taken whole before the upstream hears of it: one write, and a slow client costs it nothing.
_SMALL_BODY_BYTES: Final = 64 * 1024
_ALLOW: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_TUNNEL_IDLE_S: Final = 600.0  # browsers and WebSocket libraries ping at least every minute or two


# The core reads an image back before it answers these, where the client brought it to S3 by itself.
_VERIFYING: Final = ("/_complete", "/_multipart_complete")
_VERIFYING_S: Final = 3600.0


def patience_s(path: str) -> float:
    """How long the core may well take before it begins to answer, in seconds."""
    return _VERIFYING_S if path.startswith("/v2/imagefile/") and path.endswith(_VERIFYING) else 0.0


@runtime_checkable
class SendsTrailers(Protocol):
    """A request body that knows the fields after its last chunk."""

    @property
    def trailers(self) -> Iterable[Field]: ...


class ForwardHandler:
    """Forwards requests to one upstream."""

    def __init__(
        self,
        pool: UpstreamPool,
        *,
        limits: Limits,
        core: Core,
        health: Health | None = None,
        upstream: Upstream | None = None,
        tunnel_idle_s: float = _TUNNEL_IDLE_S,
    ) -> None:
        """``upstream`` is its circuit; without one, every request is tried."""
        self._pool = pool
        self._upstream = upstream or Upstream("upstream", CircuitPolicy(max_fails=0))
        self._is_timed = self._upstream.circuit.policy.slow_s > 0
        self._body_limit = limits.request_body_bytes
        self._core = core
        self._health = health
        self._tunnel_idle_s = tunnel_idle_s
        self._watched: asyncio.Future[None] | None = None

    async def handle(self, exchange: Exchange) -> None:
        """Forward one request and answer it.

        Raises: MethodNotAllowed, BodyTooLarge, CoreDown, UpstreamTimeout, UpstreamProtocol, ClientGone and what the
        body raises. If the answer had begun, the client's connection is cut by then.
        """
        link = _ClientLink(exchange.closed)
        exchange.closed.add_done_callback(link.cut)
        try:
            await self._forward(exchange, link)
        except GatewayError:
            if exchange.is_started:
                exchange.abort()
            raise
        finally:
            exchange.closed.remove_done_callback(link.cut)

    async def _forward(self, exchange: Exchange, link: "_ClientLink") -> None:
        head = exchange.head
        if head.method == "TRACE":  # it would show the client what the gateway tells the upstream
            raise MethodNotAllowed("TRACE is not supported.", headers=(("allow", _ALLOW),))
        upgrade = upgrade_of(head)
        if self._health is not None and self._health.down is not self._watched:
            self._upstream.circuit.reset(time.monotonic())  # it is back: what its predecessor did is past
        self._upstream.refuse_while_open()
        attempt = self._upstream.attempt()
        patience = 0.0 if self._health is None else patience_s(head.path)
        link.timed = attempt if self._is_timed and not patience else None
        # Not within the attempt: a client that sends a small body slowly must not hold an open circuit's only try.
        body = await self._body_of(exchange, attempt, link.timed)
        with attempt:
            response = await self._ask(exchange, link, body, upgrade, patience=patience)
        link.hand_over(response)
        if self._health is not None:
            self._health.note_alive()
        try:
            await self.answer(exchange, response, upgrade)
        finally:
            await response.aclose()

    async def _ask(
        self,
        exchange: Exchange,
        link: "_ClientLink",
        body: bytes | Body | None,
        upgrade: str,
        *,
        patience: float,
    ) -> UpstreamResponse:
        """Send the request on, wait for the head of its answer."""
        head = exchange.head
        if self._health is not None:
            await await_up(self._health)
            self._watch(self._health)
        if isinstance(body, Body):
            link.timed = None  # its time begins with the end of the body
        return await self._pool.request(
            method=head.method,
            head=request_head(head, exchange.peer, exchange.request_id, upgrade=upgrade),
            body=body,
            head_s=max(self._core.head_s, patience),
            idle_s=self._core.idle_s,
            hold=DialHold(seconds=self._core.hold_s, health=self._health),
            may_upgrade=bool(upgrade),
            inform=_informer(exchange) if head.minor else None,
            watch=link.watch,
        )

    async def answer(self, exchange: Exchange, response: UpstreamResponse, upgrade: str = "") -> None:
        """Give the client an upstream's answer as it comes."""
        if response.status == SWITCHING:
            await self._tunnel(exchange, response, upgrade)
            return
        head = response.head
        is_head = exchange.head.method == "HEAD"
        fields = answer_fields(response.fields)
        content = response.whole()
        if content is not None and not response.trailers and not is_head:
            await exchange.reply(Reply(status=response.status, fields=fields, body=content))
            return
        await exchange.start(response.status, fields, length=head.length)
        if content:
            await exchange.write(content)
        async for piece in response.chunks():
            await exchange.write(piece)
        await exchange.finish(allowed_trailers(response.trailers) if head.is_chunked else ())

    async def _tunnel(self, exchange: Exchange, response: UpstreamResponse, upgrade: str) -> None:
        switched = response.fields.get("upgrade")
        if switched.lower() != upgrade.lower():
            raise UpstreamProtocol(detail=f"asked for {upgrade!r}, the upstream switched to {switched!r}")
        fields = answer_fields(response.fields, upgrade=switched)
        reader, writer = await exchange.tunnel(response.status, fields)
        await Tunnel(reader, writer, response.tunnel, idle_s=self._tunnel_idle_s).run()

    async def _body_of(
        self, exchange: Exchange, attempt: Attempt, timed: Attempt | None
    ) -> bytes | Body | None:
        match exchange.head.framing:
            case NoBody():
                return None
            case Sized(length) if length > self._body_limit:
                raise self._too_large()
            case Sized(length) if length <= _SMALL_BODY_BYTES:
                return await exchange.body.read(length)
            case Sized():
                return Body(chunks=self._limited(exchange.body, attempt, timed))
            case Chunked():
                return Body(
                    chunks=self._limited(exchange.body, attempt, timed),
                    is_chunked=True,
                    trailers=lambda: _request_trailers(exchange.body),
                )

    async def _limited(
        self, body: RequestBody, attempt: Attempt, timed: Attempt | None
    ) -> AsyncIterator[bytes]:
        taken = 0
        attempt.is_sending = True
        async for piece in body.chunks():
            taken += len(piece)
            if taken > self._body_limit:
                raise self._too_large()
            yield piece
        attempt.is_sending = False
        if timed is not None:
            timed.sent()  # however long a slow client took until here

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"The request body is larger than this server accepts ({self._body_limit} bytes)."
        )

    def _watch(self, health: Health) -> None:
        """Nobody waits for an upstream that hangs: it may accept connections for ever and answer none."""
        if health.down is not self._watched:
            self._watched = health.down
            self._watched.add_done_callback(self._declared_down)

    def _declared_down(self, _: asyncio.Future[None]) -> None:
        self._pool.fail_waiting(CoreDown(detail="the upstream was declared down while it was asked"))


class _ClientLink:
    """Cancels the upstream's request when the client is gone. ``timed`` from when it has a connection."""

    __slots__ = ("_closed", "_connection", "_response", "timed")

    def __init__(self, closed: asyncio.Future[None]) -> None:
        self._closed = closed
        self.timed: Attempt | None = None
        self._connection: UpstreamConnection | None = None
        self._response: UpstreamResponse | None = None

    def watch(self, connection: UpstreamConnection) -> None:
        """The request is on this connection now. Raises: ClientGone."""
        if self._closed.done():
            raise ClientGone
        self._connection = connection
        if self.timed is not None:
            self.timed.sent()

    def hand_over(self, response: UpstreamResponse) -> None:
        """The answer began. It knows how long the connection is ours."""
        self._connection = None
        self._response = response

    def cut(self, _: asyncio.Future[None]) -> None:
        """The client is gone."""
        if self._connection is not None:
            self._connection.fail(ClientGone())
        elif self._response is not None:
            self._response.fail(ClientGone())


def _informer(exchange: Exchange) -> "Informer":
    async def inform(status: int, fields: Fields) -> None:
        await exchange.inform(status, answer_fields(fields))

    return inform


class Informer(Protocol):
    """Passes an interim head on."""

    async def __call__(self, status: int, fields: Fields, /) -> None: ...


def _request_trailers(body: RequestBody) -> tuple[Field, ...]:
    return allowed_trailers(body.trailers) if isinstance(body, SendsTrailers) else ()
