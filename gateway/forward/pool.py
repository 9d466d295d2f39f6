"""Owns the connections to one upstream: reuse, limit, queue; and one request over one of them."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from gateway.errors import CoreDown, UpstreamProtocol, UpstreamTimeout
from gateway.forward.answer import CONTINUE, FIRST_FINAL, SWITCHING, AnswerHead
from gateway.forward.connection import ClosedUnanswered, UpstreamConnection
from gateway.forward.deadlines import NEVER, DeadlineTimer
from gateway.forward.origin import Dialer, DialHold, Origin
from gateway.forward.outgoing import Body
from gateway.forward.response import UpstreamResponse, Watched
from gateway.forward.rewrite import simple_head
from gateway.http.head import Field, Fields

_IDLE_KEEP_S: Final = 30.0  # an idle connection costs a descriptor at both ends
_CALL_ANSWER_BYTES: Final = 1024 * 1024
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110 section 9.2.2
_UPLOAD_GOES_ON: Final = range(200, 300)  # an early 2xx may be a conversation; anything else is a refusal


type Inform = Callable[[int, Fields], Awaitable[None]]


class WatchedRequest(Watched, Protocol):
    """Somebody who watches one exchange from its beginning."""

    def counted(self, body: Body) -> Body:
        """The body as it is to be sent."""
        ...


class Observer(Protocol):
    """Somebody who wants to see every exchange (``gateway trace``)."""

    def begun(self, head: bytes, body: bytes | Body | None) -> WatchedRequest:
        """A request is about to be sent."""
        ...


def may_resend(*, method: str, is_reused: bool, body_begun: bool, unsent: bool) -> bool:
    """Whether a request whose connection closed without an answer may be sent once more.

    Only if the upstream surely got nothing; or in the race between reuse and the upstream's own idle limit, if it may
    get it twice (RFC 9110 section 9.2.2). A streamed body cannot be had twice.
    """
    return not body_begun and (unsent or (is_reused and method in _IDEMPOTENT))


class UpstreamPool:
    """Keep-alive HTTP/1.1 connections to ``unix:/path`` or ``http(s)://host:port``. Raises: ValueError."""

    def __init__(
        self,
        origin: Origin | str,
        *,
        connections: int,
        connect_s: float,
        tls: ssl.SSLContext | None = None,
        idle_keep_s: float = _IDLE_KEEP_S,
    ) -> None:
        self._dialer = Dialer(
            Origin.parse(origin) if isinstance(origin, str) else origin, connect_s=connect_s, tls=tls
        )
        self._limit = connections
        self._idle_keep_s = idle_keep_s
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._dialing = 0
        self._queue: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._timer: DeadlineTimer | None = None
        self._is_closed = False
        self._way = 0  # counts the changes of way
        self._from_before: set[UpstreamConnection] = set()  # dialled before the last one
        self.observer: Observer | None = None

    @property
    def url(self) -> str:
        """Where it leads: ``unix:/path`` or ``http(s)://host:port``."""
        name = self._dialer.name
        if name.startswith("unix:"):
            return name
        host, _, port = name.rpartition(":")
        return f"{'https' if self._dialer.is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def __repr__(self) -> str:
        return (
            f"<UpstreamPool {self._dialer.name} open={len(self._open)} idle={len(self._idle)}"
            f" dialing={self._dialing} queued={len(self._queue)}>"
        )

    async def request(
        self,
        *,
        method: str,
        head: bytes = b"",
        target: str = "",
        fields: Sequence[Field] = (),
        body: bytes | Body | None = None,
        head_s: float,
        idle_s: float | None,
        hold: DialHold | None = None,
        may_upgrade: bool = False,
        inform: Inform | None = None,
        watch: Callable[[UpstreamConnection], None] | None = None,
    ) -> UpstreamResponse:
        """Send a request, wait for the head of its answer.

        Either ``head`` is the ready head with its framing, or ``target`` and ``fields`` make one. ``head_s`` counts
        from now, or from the end of a streamed body; ``idle_s`` is the longest pause in the answer, None = the whole
        answer within ``head_s``. ``inform`` gets 1xx heads but 100. ``watch`` gets the connection, to ``fail`` it.
        Raises: CoreDown, UpstreamTimeout, UpstreamProtocol, and whatever the body raises.
        """
        until = self.now() + head_s
        if not head:
            head = _ready_head(method, target, fields, body)
        watched = None if self.observer is None else self.observer.begun(head, body)
        if watched is not None and isinstance(body, Body):
            body = watched.counted(body)
        try:
            connection, final = await self._exchange(
                method, head, body, head_s=head_s, idle_s=idle_s, until=until, hold=hold,
                may_upgrade=may_upgrade, inform=inform, watch=watch,
            )  # fmt: skip
        except BaseException as error:
            if watched is not None:
                watched.failed(error)
            raise
        response = UpstreamResponse(self, connection, final, idle_s, until)
        if watched is not None:
            watched.answered(response.status, response.fields)
            response.watched = watched
        return response

    async def _exchange(
        self,
        method: str,
        head: bytes,
        body: bytes | Body | None,
        *,
        head_s: float,
        idle_s: float | None,
        until: float,
        hold: DialHold | None,
        may_upgrade: bool,
        inform: Inform | None,
        watch: Callable[[UpstreamConnection], None] | None,
    ) -> tuple[UpstreamConnection, AnswerHead]:
        data = head + body if isinstance(body, bytes) else head
        is_fresh = False
        while True:
            connection = await self._acquire(until, hold, is_fresh=is_fresh)
            is_reused = connection.requests > 0
            try:
                if watch is not None:
                    watch(connection)
                connection.begin(method, data, may_upgrade=may_upgrade, head_until=until)
                if isinstance(body, Body):
                    connection.upload(body, head_s=head_s, idle_s=head_s if idle_s is None else idle_s)
                final = await self._final_head(connection, inform)
            except ClosedUnanswered as closed:
                await self._discard(connection)
                if is_fresh or not may_resend(method=method, is_reused=is_reused, body_begun=connection.body_begun,
                                  unsent=closed.unsent):  # fmt: skip
                    raise await self._explain_closed(closed) from closed
                is_fresh = True  # every idle connection may have met the same end
            except BaseException:
                await self._discard(connection)
                raise
            else:
                return connection, final

    async def call(
        self,
        method: str,
        target: str,
        fields: Sequence[Field],
        body: bytes,
        *,
        timeout_s: float,
        hold: DialHold | None = None,
        limit: int = _CALL_ANSWER_BYTES,
    ) -> tuple[int, Fields, bytes]:
        """A small call of our own, all of it within ``timeout_s``.

        Raises: CoreDown, UpstreamTimeout, UpstreamProtocol (also for an answer of more than ``limit`` bytes).
        """
        response = await self.request(
            method=method, target=target, fields=fields, body=body, head_s=timeout_s, idle_s=None, hold=hold
        )
        content = response.whole() or b""
        async with response:
            async for piece in response.chunks():
                content += piece
                if len(content) > limit:
                    break
        if len(content) > limit:
            raise UpstreamProtocol(detail=f"{method} {target}: more than {limit} bytes of answer")
        return response.status, response.fields, content

    def resize(self, *, connections: int, connect_s: float) -> None:
        """Another number of connections, and another patience with a dial, from now on. Nothing under way is cut."""
        self._limit = connections
        self._dialer.connect_s = connect_s
        while self._idle and len(self._open) > connections:
            self._idle[0].close()
        self._give_place()

    def fail_waiting(self, error: Exception) -> None:
        """Fail every request that has no answer yet, also those that wait for a connection."""
        for waiter in self._queue:  # first, or they would get the places of those that fail now
            if not waiter.done():
                waiter.set_exception(error)
        self._queue.clear()
        for connection in list(self._open):
            if connection.awaits_head:
                connection.fail(error)

    def redirect(self, origin: Origin | None) -> None:
        """Dial this address from now on while somebody listens there; None: the own one. Nothing under way is cut."""
        self._dialer.detour(origin)
        self._way += 1
        for connection in self._idle[:]:
            connection.close()
        self._from_before = set(self._open)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        self._is_closed = True
        self.fail_waiting(CoreDown(detail="the pool was closed"))
        for connection in list(self._open):
            connection.fail(CoreDown(detail="the pool was closed"))
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    def now(self) -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    def arm(self, when: float) -> None:
        """See to it that ``expire`` is called at ``when``."""
        if self._timer is None:
            self._timer = DeadlineTimer(asyncio.get_running_loop(), self._expire)
        self._timer.arm(when)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection closed: its place is free."""
        if connection in self._open:
            self._open.remove(connection)
            self._from_before.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._give_place()

    def settle(self, connection: UpstreamConnection) -> None:
        """A request is over: hand its connection on, or let it rest."""
        if not connection.settle():
            return
        is_one_too_many = len(self._open) > self._limit  # since a reload; handed on, it would stay for ever
        if self._is_closed or is_one_too_many or connection in self._from_before:
            connection.close()
            return
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.idle_deadline = self.now() + self._idle_keep_s
        self.arm(connection.idle_deadline)
        self._idle.append(connection)

    async def _final_head(self, connection: UpstreamConnection, inform: Inform | None) -> AnswerHead:
        while True:
            head = await connection.next_head()
            if head.status >= FIRST_FINAL or head.status == SWITCHING:
                break
            if inform is not None and head.status != CONTINUE:
                await inform(head.status, head.fields)
        if connection.is_uploading and head.status not in _UPLOAD_GOES_ON:
            await connection.stop_upload()
        return head

    async def _discard(self, connection: UpstreamConnection) -> None:
        connection.close()
        await connection.stop_upload()
        connection.settle()

    async def _explain_closed(self, closed: ClosedUnanswered) -> UpstreamProtocol | CoreDown:
        """An upstream that died under a request also refuses the next dial: then it is down, not wrong."""
        try:
            connection = await self._dial(None)
        except CoreDown as down:
            return down
        self.settle(connection)
        return UpstreamProtocol(detail="the upstream closed without an answer")

    async def _acquire(self, until: float, hold: DialHold | None, *, is_fresh: bool) -> UpstreamConnection:
        if self._is_closed:
            raise CoreDown(detail="the pool was closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and not is_fresh:
                return connection
            connection.close()
        if len(self._open) + self._dialing < self._limit:
            self._dialing += 1
            return await self._dial_reserved(hold)
        return await self._wait_in_queue(until, hold)

    async def _wait_in_queue(self, until: float, hold: DialHold | None) -> UpstreamConnection:
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                connection = await waiter
        except BaseException as error:
            self._give_back(waiter)
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(detail="all connections to the upstream stayed busy") from error
            raise
        if connection is None:
            return await self._dial_reserved(hold)
        if connection.is_usable:
            return connection
        connection.close()
        return await self._acquire(until, hold, is_fresh=True)

    def _give_back(self, waiter: asyncio.Future[UpstreamConnection | None]) -> None:
        """Whoever waited is gone: pass on what it was given in the same moment."""
        if waiter in self._queue:
            self._queue.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            connection = waiter.result()
            if connection is not None:
                self.settle(connection)
            else:
                self._dialing -= 1
                self._give_place()

    def _give_place(self) -> None:
        """Let the next in the queue dial, if there is room."""
        while self._queue and len(self._open) + self._dialing < self._limit:
            waiter = self._queue.popleft()
            if not waiter.done():
                self._dialing += 1
                waiter.set_result(None)

    async def _dial(self, hold: DialHold | None) -> UpstreamConnection:
        self._dialing += 1
        return await self._dial_reserved(hold)

    async def _dial_reserved(self, hold: DialHold | None) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = None
        way = self._way
        try:
            connection = await self._dialer.dial(
                lambda: UpstreamConnection(loop, self, is_tls=self._dialer.is_tls), hold
            )
            self._open.add(connection)
            if way != self._way:
                self._from_before.add(connection)
        finally:
            self._dialing -= 1
            if connection is None:
                self._give_place()
        is_hung = hold is not None and hold.health is not None and not hold.health.is_up
        if is_hung or self._is_closed:
            connection.close()  # a hung upstream's kernel still accepts connections
            raise CoreDown(detail="the upstream is not healthy" if is_hung else "the pool was closed")
        return connection

    def _expire(self, now: float) -> float:
        return min((connection.expire(now) for connection in list(self._open)), default=NEVER)


def _ready_head(method: str, target: str, fields: Sequence[Field], body: bytes | Body | None) -> bytes:
    if isinstance(body, Body):
        framing = "transfer-encoding: chunked\r\n" if body.is_chunked else ""
    else:
        framing = f"content-length: {len(body)}\r\n" if body is not None else ""
    return simple_head(method, target, fields, framing=framing)
