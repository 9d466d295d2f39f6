"""Owns what the caller of an upstream holds: an answer whose head came, and a claim on its connection."""

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Protocol, Self

from gateway.errors import UpstreamProtocol
from gateway.forward.answer import AnswerHead
from gateway.forward.connection import UpstreamConnection
from gateway.http.head import Field


class Settler(Protocol):
    """The pool, as an answer sees it."""

    def now(self) -> float:
        """The loop's clock."""
        ...

    def settle(self, connection: UpstreamConnection) -> None:
        """A request is over."""
        ...


class Watched(Protocol):
    """Somebody who watches one exchange (``gateway trace``)."""

    def answered(self, status: int, fields: Iterable[Field]) -> None:
        """The head of the answer is here."""
        ...

    def ended(self, received: int, *, is_complete: bool) -> None:
        """The answer is over."""
        ...

    def failed(self, error: BaseException) -> None:
        """There is no answer."""
        ...


class UpstreamResponse:
    """Close it (``async with``, ``aclose``), or take all of its content.

    trailers: the fields after the content, once all of it was taken.
    received: bytes of content that were taken.
    """

    __slots__ = (
        "_connection", "_idle_s", "_pool", "_until", "fields", "head", "received", "status", "trailers", "watched",
    )  # fmt: skip

    def __init__(
        self,
        pool: Settler,
        connection: UpstreamConnection,
        head: AnswerHead,
        idle_s: float | None,
        until: float,
    ) -> None:
        self._pool = pool
        self._connection: UpstreamConnection | None = connection
        self._idle_s = idle_s
        self._until = until
        self.head = head
        self.status = head.status
        self.fields = head.fields
        self.trailers: tuple[Field, ...] = ()
        self.received = 0
        self.watched: Watched | None = None

    def whole(self) -> bytes | None:
        """The whole content if it is here already; the connection is then free for others. Else None."""
        connection = self._connection
        if connection is None or not connection.is_complete or connection.is_uploading:
            return None
        content = connection.take()
        self.received = len(content)
        self._settle()
        return content

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content as it comes. Raises: UpstreamTimeout, UpstreamProtocol."""
        connection = self._connection
        while connection is not None:
            until = self._until if self._idle_s is None else self._pool.now() + self._idle_s
            piece = await connection.next_piece(until=until)
            if not piece:
                await self.aclose()
                return
            self.received += len(piece)
            yield piece

    @property
    def tunnel(self) -> UpstreamConnection:
        """The raw connection, after 101."""
        if self._connection is None:
            raise UpstreamProtocol(detail="the tunnel was closed")
        return self._connection

    def fail(self, error: Exception) -> None:
        """Make whoever waits for more of the answer fail with ``error``."""
        if self._connection is not None:
            self._connection.fail(error)

    async def aclose(self) -> None:
        """Free the connection, or close it if the answer is not complete."""
        connection = self._connection
        if connection is not None:
            await connection.stop_upload()
            self._settle()

    def _settle(self) -> None:
        connection = self._connection
        self._connection = None
        if connection is not None:
            self.trailers = connection.trailers
            if self.watched is not None:
                self.watched.ended(self.received, is_complete=connection.is_complete)
            self._pool.settle(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
