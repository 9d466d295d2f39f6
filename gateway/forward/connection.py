"""Owns one connection to an upstream: its bytes, its back-pressure, its deadlines, its end."""

import asyncio
import errno
import select
import socket
from contextlib import suppress
from typing import Final, Protocol, cast

from gateway.errors import UpstreamProtocol, UpstreamTimeout
from gateway.forward.answer import AnswerDecoder, AnswerHead
from gateway.forward.deadlines import NEVER
from gateway.forward.outgoing import Body, Outgoing
from gateway.http.head import Field

_READ_HIGH_BYTES: Final = 256 * 1024  # content held for a slow client before the upstream is paused
# A small sized answer is worth a moment's wait for its content: one write to the client instead of two.
_WHOLE_BYTES: Final = 64 * 1024
_WHOLE_WAIT_S: Final = 0.002
_ONE_SEND_BYTES: Final = 16 * 1024  # a socket takes this much whole or not at all
_SALVAGE_BYTES: Final = 1024 * 1024


class ClosedUnanswered(Exception):
    """The upstream closed before the first byte of an answer. ``unsent``: surely before it got a byte of ours."""

    def __init__(self, *, unsent: bool) -> None:
        self.unsent = unsent
        super().__init__("closed without an answer")


class Owner(Protocol):
    """What a connection tells its pool."""

    def arm(self, when: float) -> None:
        """``expire`` must be called at ``when``."""
        ...

    def forget(self, connection: "UpstreamConnection") -> None:
        """The connection is closed."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One request at a time: ``begin``, ``next_head`` until it is final, ``next_piece`` until ``b""``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, *, is_tls: bool) -> None:
        self._loop = loop
        self._owner = owner
        self._is_tls = is_tls
        self._transport: asyncio.Transport
        self._spare: socket.socket | None = None
        self._peek = select.poll()
        self._decoder = AnswerDecoder()
        self.outgoing = Outgoing(loop, owner.arm)
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._whole_wait: asyncio.TimerHandle | None = None
        self._upload: asyncio.Task[None] | None = None
        self._is_busy = False
        self._is_closed = False
        self._is_read_paused = False
        self._one_send = False
        self._head_given = False
        self._head_until = NEVER
        self.requests = 0
        self.body_begun = False
        self.read_deadline = NEVER
        self.idle_deadline = NEVER

    @property
    def is_usable(self) -> bool:
        """Idle, and the upstream neither closed it nor said anything unasked."""
        if self._is_closed or self._is_busy or self._transport.is_closing():
            return False
        return self._is_tls or not self._peek.poll(0)

    @property
    def awaits_head(self) -> bool:
        """A request is under way that has no final head yet."""
        return self._is_busy and self._decoder.head is None

    @property
    def is_complete(self) -> bool:
        """The whole answer was received."""
        return self._decoder.is_complete

    @property
    def is_uploading(self) -> bool:
        """The request's body is still being sent."""
        return self._upload is not None and not self._upload.done()

    @property
    def _sent_all(self) -> bool:
        """The upstream got the whole body, if there is one: a rest would be taken for the next request."""
        task = self._upload
        return task is None or (task.done() and not task.cancelled() and task.exception() is None)

    @property
    def trailers(self) -> tuple[Field, ...]:
        """The fields after the answer's content."""
        return self._decoder.trailers

    def expire(self, now: float) -> float:
        """End what is due; the next deadline."""
        if self.idle_deadline <= now:
            self.close()
        elif self.read_deadline <= now or self.outgoing.deadline <= now:
            stalled = self.outgoing.deadline <= now
            what = "took too little of the request" if stalled else "did not answer in time"
            self.fail(UpstreamTimeout(detail=f"the upstream {what}"))
        return min(self.read_deadline, self.outgoing.deadline, self.idle_deadline)

    def begin(self, method: str, data: bytes, *, may_upgrade: bool, head_until: float) -> None:
        """Send a head, or a head and its whole body."""
        self.requests += 1
        self._is_busy = True
        self.body_begun = False
        self._head_given = False
        self._head_until = head_until
        self.idle_deadline = NEVER
        self._decoder.begin(method, may_upgrade=may_upgrade)
        self._one_send = len(data) <= _ONE_SEND_BYTES
        if self._is_closed:  # it was lost between dial and use
            self._failure = ClosedUnanswered(unsent=True)
        else:
            self._transport.write(data)

    def upload(self, body: Body, *, head_s: float, idle_s: float) -> None:
        """Send the body beside waiting for the answer. Its failure is the request's failure.

        While the body is under way its own deadlines count: a slow client is not the upstream's fault.
        """
        self._head_until = NEVER
        self._upload = self._loop.create_task(self._send_body(body, head_s=head_s, idle_s=idle_s))
        self._upload.add_done_callback(self._uploaded)

    async def stop_upload(self) -> None:
        """Send no more of the body: the connection cannot be used again."""
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            await asyncio.wait((self._upload,))

    async def next_head(self) -> AnswerHead:
        """The next interim head, or the final one.

        Raises: ClosedUnanswered, UpstreamTimeout, UpstreamProtocol, or what broke the body.
        """
        decoder = self._decoder
        while True:
            if decoder.interim:
                return decoder.interim.pop(0)
            if decoder.head is not None:
                self._head_given = True
                return decoder.head
            if self._failure is not None:
                raise self._failure
            await self._wait(self._head_until)

    async def next_piece(self, *, until: float) -> bytes:
        """Content of the answer, ``b""`` at its end. Raises: UpstreamTimeout, UpstreamProtocol."""
        decoder = self._decoder
        while True:
            if decoder.buffered:
                return self.take()
            if decoder.is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait(until)

    def take(self) -> bytes:
        """The content that is here."""
        content = self._decoder.take()
        if self._is_read_paused:
            self._is_read_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return content

    def settle(self) -> bool:
        """The request is over; whether the connection may carry another one. If not, it is closed."""
        self.take()  # what nobody wanted to have
        reusable = (
            self._decoder.is_reusable
            and self._sent_all
            and self._failure is None
            and not self._transport.is_closing()
        )
        self._is_busy = False
        self._upload = None
        if not reusable:
            self.close()
        return reusable

    def fail(self, error: Exception) -> None:
        """End the request with ``error``, unless it has already failed."""
        if self._failure is None:
            self._failure = error
        self.close()
        self._wake()

    def close(self) -> None:
        """Close at once."""
        self.read_deadline = self.idle_deadline = NEVER
        self.outgoing.end(self._failure)
        self._owner.forget(self)
        if not self._is_closed:
            self._transport.abort()
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
        self._release_spare()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep a second descriptor: it tells cheaply whether the upstream closed, and saves a last answer."""
        self._transport = cast("asyncio.Transport", transport)
        self.outgoing.attach(self._transport)
        if not self._is_tls:
            known = self._transport.get_extra_info("socket")
            self._spare = socket.fromfd(known.fileno(), known.family, known.type)
            self._peek.register(self._spare, select.POLLIN | select.POLLRDHUP)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        if not self._is_busy:
            self.close()  # nobody asked
            return
        decoder = self._decoder
        try:
            decoder.feed(data)
        except UpstreamProtocol as error:
            self.fail(error)
            return
        if decoder.buffered > _READ_HIGH_BYTES and not (self._is_read_paused or self._transport.is_closing()):
            self._is_read_paused = True
            self._transport.pause_reading()
        if self._waiter is not None:
            self._tell_progress()

    def eof_received(self) -> bool:
        """The upstream closed its side."""
        may_still_write = self._decoder.is_tunnel
        self._ended(None)
        return may_still_write

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. What the upstream said before it closed is still in the socket: read it."""
        if exc is not None and self._is_busy and self._failure is None and self._spare is not None:
            self._salvage(self._spare)
        self._is_closed = True
        self._ended(exc)
        self.outgoing.end(self._failure)
        self._owner.forget(self)
        self._release_spare()

    def pause_writing(self) -> None:
        """The upstream reads slowly."""
        self.outgoing.pause()

    def resume_writing(self) -> None:
        """The upstream reads again."""
        self.outgoing.resume()

    async def _wait(self, until: float) -> None:
        self.read_deadline = until
        self._owner.arm(until)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.read_deadline = NEVER

    def _wake(self) -> None:
        if self._whole_wait is not None:
            self._whole_wait.cancel()
            self._whole_wait = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tell_progress(self) -> None:
        """Wake who waits; but let a small sized answer become whole first, if that takes but a moment."""
        decoder = self._decoder
        if self._whole_wait is not None:
            if decoder.is_complete:
                self._wake()
        elif decoder.head is None:
            if decoder.interim:
                self._wake()
        elif 0 < decoder.awaits <= _WHOLE_BYTES and not (self._head_given or self.is_uploading):
            self._whole_wait = self._loop.call_later(_WHOLE_WAIT_S, self._wake)
        else:
            self._wake()

    async def _send_body(self, body: Body, *, head_s: float, idle_s: float) -> None:
        self.body_begun = True
        await self.outgoing.send_body(body, idle_s=idle_s)
        if self.awaits_head:
            self._head_until = self.read_deadline = self._loop.time() + head_s
            self._owner.arm(self._head_until)

    def _uploaded(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(cast("Exception", error))

    def _ended(self, exc: Exception | None) -> None:
        """The upstream will say nothing more."""
        if not self._is_busy:
            self.close()
            return
        if self._failure is None and not self._decoder.is_complete:
            try:
                self._decoder.end()
            except UpstreamProtocol as error:
                unsent = (
                    self._one_send and isinstance(exc, OSError) and exc.errno in {errno.EPIPE, errno.ENOTCONN}
                )
                lost = ClosedUnanswered(unsent=unsent)
                self._failure = error if self._decoder.has_begun else lost
        self._wake()

    def _salvage(self, spare: socket.socket) -> None:
        """An upstream that refuses early and closes makes our write fail before its answer was read."""
        taken = 0
        with suppress(OSError):
            while taken < _SALVAGE_BYTES and (data := spare.recv(65536, socket.MSG_DONTWAIT)):
                taken += len(data)
                self.data_received(data)

    def _release_spare(self) -> None:
        if self._spare is not None:
            self._peek.unregister(self._spare)
            self._spare.close()
            self._spare = None
