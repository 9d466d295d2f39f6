"""Owns the upstream of a ``[[routes]]`` table: requests passed as they are, rewritten forms, questions before them."""

import dataclasses
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import ClientGone, CoreRefused, UpstreamProtocol
from gateway.forward.circuit import CircuitPolicy
from gateway.forward.circuits import ActiveCheck, Circuits, Upstream
from gateway.forward.handler import ForwardHandler
from gateway.forward.origin import DialHold
from gateway.forward.pool import UpstreamPool
from gateway.forward.rewrite import request_head
from gateway.http.exchange import Exchange
from gateway.http.head import NO_BODY, Field, Fields, RequestHead, Sized
from gateway.settings import Core, Limits
from gateway.settings_routes import Route

_UNLIMITED: Final = 1 << 62
# What describes the client's form.
_FORM_FIELDS: Final = frozenset(
    ("content-type", "content-encoding", "content-range", "content-md5", "content-digest", "repr-digest")
)
# Of a question: no body, and what we say of the original request is not the client's to say.
_NOT_ASKED: Final = frozenset(
    ("content-type", "content-length", "transfer-encoding", "expect", "x-original-method", "x-original-uri")
)
_SUCCESSES: Final = range(200, 300)
_REFUSALS: Final = frozenset((401, 403))


class RouteBackend:
    """One route's upstream. ``core`` lends its timeouts."""

    def __init__(self, route: Route, *, limits: Limits, core: Core, circuits: Circuits | None = None) -> None:
        self._core = core
        self._place = route.place
        self._pool = self._make_pool(route.upstream)
        self._check_pool = UpstreamPool(route.upstream, connections=1, connect_s=core.connect_s)
        self.upstream = (circuits or Circuits()).add(
            Upstream(route.place, _policy(route), check=self._check_of(route))
        )
        body_limit = route.max_body_bytes or _UNLIMITED
        self._forward = ForwardHandler(
            self._pool,
            limits=limits.model_copy(update={"request_body_bytes": body_limit}),
            core=core,
            upstream=self.upstream,
        )
        self._is_guarded = bool(route.auth_url)
        url = urlsplit(route.auth_url)
        self._auth_target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        self._auth_pool = self._make_pool(f"http://{url.netloc}") if url.netloc else self._pool

    def _make_pool(self, origin: str) -> UpstreamPool:
        return UpstreamPool(origin, connections=self._core.connections, connect_s=self._core.connect_s)

    def _check_of(self, route: Route) -> ActiveCheck | None:
        if not route.health_path:
            return None

        async def ask() -> int:
            # By a connection of its own: those of the requests may all be stuck.
            fields = (("host", route.health_host or "localhost"), ("user-agent", "sregistry-gateway"))
            status, _, _ = await self._check_pool.call(
                "GET", route.health_path, fields, b"", timeout_s=route.health_timeout_s
            )
            return status

        return ActiveCheck(ask=ask, every_s=route.health_every_s)

    @property
    def place(self) -> str:
        """Where on this server it is."""
        return self._place

    @property
    def pools(self) -> frozenset[UpstreamPool]:
        """Its connections: to the upstream, and to where the question is asked."""
        return frozenset((self._pool, self._auth_pool))

    async def handle(self, exchange: Exchange) -> None:
        """Forward a request as it is, after the question if the route has one."""
        if self._is_guarded:
            await self.ask(exchange)
        await self._forward.handle(exchange)

    async def ask(self, exchange: Exchange) -> None:
        """The question before the first body byte: the client's head without its body, by GET.

        Raises: CoreRefused for 401 and 403, UpstreamProtocol for every other answer that is not 2xx, CoreDown,
        UpstreamTimeout.
        """
        head = exchange.head
        asked = tuple(field for field in head.fields if field[0] not in _NOT_ASKED)
        original = (("x-original-method", head.method), ("x-original-uri", head.target))
        question = dataclasses.replace(
            head, method="GET", target=self._auth_target, fields=Fields((*asked, *original)), framing=NO_BODY
        )
        response = await self._auth_pool.request(
            method="GET",
            head=request_head(question, exchange.peer, exchange.request_id),
            head_s=self._core.head_s,
            idle_s=self._core.idle_s,
            hold=DialHold(seconds=self._core.hold_s),
        )
        async with response:
            status, fields = response.status, response.fields
        if status in _SUCCESSES:
            return
        if status in _REFUSALS:
            challenges = tuple(("www-authenticate", value) for value in fields.all("www-authenticate"))
            raise CoreRefused(
                status, "The service behind this gateway refuses this upload.", headers=challenges
            )
        raise UpstreamProtocol(detail=f"the auth request was answered {status}")

    async def pass_form(
        self, exchange: Exchange, *, target: str, body: bytes, fields: tuple[Field, ...]
    ) -> int:
        """Send a form in place of the client's and give the client the answer.

        Returns the backend's status, also when the client is gone by then. Raises: CoreDown, UpstreamTimeout,
        UpstreamProtocol when there is no status.
        """
        head = _form_head(exchange.head, target, len(body))
        # The files are here already: an upload that ran when the circuit opened goes on to its end.
        with self.upstream.attempt(insists=True) as attempt:
            response = await self._pool.request(
                method="POST",
                head=request_head(head, exchange.peer, exchange.request_id, added=fields),
                body=body,
                head_s=self._core.head_s,
                idle_s=self._core.idle_s,
                hold=DialHold(seconds=self._core.hold_s),
                watch=lambda _: attempt.sent(),
            )
        try:
            await self._forward.answer(exchange, response)
        except ClientGone:
            exchange.abort()
        finally:
            await response.aclose()
        return response.status

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()
        await self._check_pool.aclose()
        if self._auth_pool is not self._pool:
            await self._auth_pool.aclose()


def _policy(route: Route) -> CircuitPolicy:
    return CircuitPolicy(
        max_fails=route.max_fails,
        slow_s=route.slow_s,
        slow_share=route.slow_share,
        pause_s=route.pause_s,
        pause_max_s=route.pause_max_s,
        is_probed=bool(route.health_path),
    )


def _form_head(head: RequestHead, target: str, length: int) -> RequestHead:
    kept = Fields(field for field in head.fields if field[0] not in _FORM_FIELDS)
    return RequestHead(
        method="POST", target=target, fields=kept, framing=Sized(length), minor=head.minor,
        major=head.major,
    )  # fmt: skip
