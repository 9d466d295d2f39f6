"""Owns a request's content: its framing, its pace, and every way it can end badly."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from typing import Final, Protocol

from gateway.errors import BodyTimeout, BodyTooLarge, ClientGone, GatewayError, MalformedRequest, Superseded
from gateway.http.chunked import ChunkedDecoder
from gateway.http.head import Field, NoBody, RequestHead, Sized
from gateway.net.blocks import Block, BlockPool, BlockSizer
from gateway.settings import Limits

CHUNK_BYTES: Final = 256 * 1024
DRAIN_BYTES: Final = 256 * 1024
# Content in pieces smaller than this is moved together: each slice costs a hop to a worker thread and back, and a
# client may send a hundred thousand of them in one block.
SMALL_BYTES: Final = 4096


class Inflow(Protocol):
    """Where content comes from: an HTTP/1.1 connection, or one HTTP/2 stream. ``inbox`` is what nobody has taken."""

    loop: asyncio.AbstractEventLoop
    inbox: bytearray

    async def invite(self) -> None:
        """Send ``100 Continue``. Raises: ClientGone."""
        ...

    async def receive(self) -> None:
        """Wait until the inbox has something, or the content is over. Raises: ClientGone, BodyTimeout."""
        ...

    async def fill(self, block: Block, limit: int, body: "Body") -> None:
        """Receive into ``block`` up to ``limit`` bytes of it, until ``body.took`` says it has enough."""
        ...

    def watch_body(self, body: "Body | None") -> None:
        """Body deadlines count while ``body`` is being waited for."""
        ...

    def interrupt_body(self, body: "Body", error: GatewayError) -> None:
        """Whoever waits for ``body`` gets ``error`` instead."""
        ...


class Unframing(Protocol):
    """Finds the content in what arrives when its length was not told, and its end."""

    @property
    def is_complete(self) -> bool:
        """Whether the end was found."""
        ...

    @property
    def trailers(self) -> tuple[Field, ...]:
        """The fields after the content."""
        ...

    @property
    def consumed(self) -> int:
        """How far the last ``feed`` came."""
        ...

    def feed(self, buffer: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ``(from, to)`` of content within ``buffer[start:end]``. Raises: MalformedRequest."""
        ...


class Body:
    """The content of one request, read either as ``chunks`` or as ``blocks``, once.

    left: bytes still to come for a sized body, None for any other (``decoder`` knows).
    """

    def __init__(
        self,
        connection: Inflow,
        left: int | None,
        decoder: Unframing | None,
        *,
        expects_continue: bool,
    ) -> None:
        self._connection = connection
        self._decoder = decoder
        self._expects_continue = expects_continue
        self._waited_s = 0.0  # how long the client, not we, was waited for
        self._waiting_since: float | None = None
        self._failure: MalformedRequest | None = None
        self._interruption: Superseded | None = None
        self._ranges: list[tuple[int, int]] = []
        self._decoded = 0  # of the current block
        self.left = left
        self.received = 0
        self.was_invited = False
        self.took_enough = False

    @property
    def is_complete(self) -> bool:
        """Whether the last byte was read."""
        return self._decoder.is_complete if self._decoder is not None else self.left == 0

    @property
    def trailers(self) -> tuple[Field, ...]:
        """Trailer fields of a chunked body, once it is complete."""
        return self._decoder.trailers if self._decoder is not None else ()

    @property
    def can_be_skipped(self) -> bool:
        """Whether what is left is so little that reading it is worth keeping the connection."""
        if self.is_complete:
            return True
        if self._expects_continue and not self.was_invited:
            return False  # the client may send it or not: this connection cannot be understood any more
        return self.left is not None and self.left <= DRAIN_BYTES

    def is_too_slow(self, now: float, limits: Limits) -> bool:
        """Whether the client paused too long, or is slower on average than it may be."""
        if self._waiting_since is None:
            return False
        waiting = now - self._waiting_since
        waited = self._waited_s + waiting
        return waiting > limits.body_idle_s or (
            waited > limits.body_min_rate_after_s and self.received < waited * limits.body_min_rate
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content in pieces of at most 256 KiB. Raises: ClientGone, BodyTimeout, MalformedRequest."""
        await self._invite()
        while not self.is_complete:
            await self._wait_for(self._connection.receive())
            for piece in self._take_pieces():
                self.received += len(piece)
                yield piece

    def _take_pieces(self) -> list[bytes]:
        inbox = self._connection.inbox
        if self._decoder is None:
            assert self.left is not None  # noqa: S101 - sized bodies know
            count = min(len(inbox), self.left, CHUNK_BYTES)
            self.left -= count
            piece = bytes(inbox[:count])
            del inbox[:count]
            return [piece]
        ranges = list(self._decoder.feed(inbox, 0, len(inbox)))
        pieces = [bytes(inbox[start:end]) for start, end in ranges]
        del inbox[: self._decoder.consumed]
        return pieces

    async def read(self, limit: int) -> bytes:
        """The whole content. Raises: BodyTooLarge beyond ``limit`` bytes, and what ``chunks`` raises."""
        if self.left is not None and self.left > limit:
            raise BodyTooLarge(f"The body may have at most {limit} bytes.")
        if self.left is not None and self.left <= min(len(self._connection.inbox), CHUNK_BYTES):
            self.received = self.left
            return self._take_pieces()[0]  # it came with its head: nobody needs to wait
        content = bytearray()
        async for piece in self.chunks():
            content += piece
            if len(content) > limit:
                raise BodyTooLarge(f"The body may have at most {limit} bytes.")
        return bytes(content)

    async def blocks(
        self, pool: BlockPool, *, keeps_cut: bool = False
    ) -> AsyncGenerator[tuple[Block, list[tuple[int, int]]]]:
        """The content as it lies in reusable blocks: ``(block, ranges of content in it)``.

        The consumer borrows the block for as long as it keeps slices; this generator lets go of its own hold when
        it is asked for the next. With ``keeps_cut`` the last block of a content that is cut comes too, before the
        error. Raises: ClientGone, BodyTimeout, MalformedRequest, whatever ``interrupt`` was given.
        """
        await self._invite()
        sizer = BlockSizer(self.left)
        while not self.is_complete:
            if self._interruption is not None:
                raise self._interruption
            if sizer.is_slow:  # no block is held for a client that sends nothing
                await self._wait_for(self._connection.receive())
            block = await pool.lease(sizer.size)
            try:
                started = time.monotonic()
                self.took_enough, self._decoded, self._ranges = False, 0, []
                limit = block.size if self.left is None else min(block.size, self.left)
                cut: GatewayError | None = None
                try:
                    await self._wait_for(self._connection.fill(block, limit, self))
                except (ClientGone, BodyTimeout, Superseded) as exc:
                    if not keeps_cut or not self._ranges:
                        raise
                    cut = exc
                if self._failure is not None:
                    raise self._failure
                self._give_back_surplus(block)
                sizer.after(block.filled, time.monotonic() - started)
                yield block, self._ranges
                if cut is not None:
                    raise cut
            finally:
                block.release()

    def interrupt(self, error: Superseded) -> None:
        """End the reading of ``blocks`` at once, wherever it waits. Raised there: ``error``."""
        self._interruption = error
        self._connection.interrupt_body(self, error)

    def took(self, block: Block) -> bool:
        """Called when bytes arrived in ``block``: note what is content; True when it should be handed on."""
        new = block.filled - self._decoded
        if self._decoder is None:
            assert self.left is not None  # noqa: S101 - sized bodies know
            self.left -= new
            self.received += new
            self._decoded = block.filled
            self._ranges = [(0, block.filled)]
            self.took_enough = self.left == 0 or block.filled == block.size
        else:
            self.took_enough = self._decode(block) or block.filled == block.size
        return self.took_enough

    def _decode(self, block: Block) -> bool:
        assert self._decoder is not None  # noqa: S101 - only called for chunked bodies
        try:
            for start, end in self._decoder.feed(block.buffer, self._decoded, block.filled):
                self.received += end - start
                self._note_range(block, start, end)
        except MalformedRequest as exc:  # not from within a transport's callback
            self._failure = exc
            return True
        self._decoded = self._decoder.consumed
        return self._decoder.is_complete

    def _note_range(self, block: Block, start: int, end: int) -> None:
        if not self._ranges:
            self._ranges.append((start, end))
            return
        first, last = self._ranges[-1]
        if last != start:
            if end - start > SMALL_BYTES:
                self._ranges.append((start, end))
                return
            # What lies between has been read: it is framing.
            moved = last + end - start
            block.view[last:moved] = block.view[start:end]
            end = moved
        self._ranges[-1] = (first, end)

    def _give_back_surplus(self, block: Block) -> None:
        # Behind a chunked body's end may stand the next, pipelined request.
        if self._decoded < block.filled:
            self._connection.inbox[:0] = block.view[self._decoded : block.filled]

    async def _invite(self) -> None:
        if self._expects_continue and not self.was_invited and not self._connection.inbox:
            await self._connection.invite()
        self.was_invited = True

    async def _wait_for(self, arrival: Awaitable[None]) -> None:
        self._waiting_since = started = self._connection.loop.time()
        self._connection.watch_body(self)
        try:
            await arrival
        finally:
            self._waited_s += self._connection.loop.time() - started
            self._waiting_since = None
            self._connection.watch_body(None)


def make_body(connection: Inflow, head: RequestHead | None) -> Body:
    """The body that belongs to ``head``."""
    if head is None or isinstance(head.framing, NoBody):
        return Body(connection, left=0, decoder=None, expects_continue=False)
    if isinstance(head.framing, Sized):
        return Body(connection, head.framing.length, None, expects_continue=head.expects_continue)
    return Body(connection, None, ChunkedDecoder(), expects_continue=head.expects_continue)
