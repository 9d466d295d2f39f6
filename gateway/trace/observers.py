"""Owns what is seen of HTTP: the events of a client's request, and of an exchange with the core or a backend."""

import dataclasses
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final

from gateway.errors import GatewayError
from gateway.forward.outgoing import Body
from gateway.http.exchange import ClientExchange
from gateway.http.head import Field
from gateway.mask import mask_target
from gateway.trace.events import Event, Sight
from gateway.trace.masking import mask_fields

_FORGET: Final = 10_000  # answers begun and never finished cannot be that many


class ClientObserver:
    """The hop between client and gateway."""

    def __init__(self, sight: Sight) -> None:
        self._publish = sight.publish
        self._wants_heads = sight.wants_heads
        self._answers: dict[str, tuple[float, bytes]] = {}

    def begun(self, exchange: ClientExchange) -> None:
        """A head was read."""
        event = {"event": "request", **_request_of(exchange)}
        if self._wants_heads():
            event["request_head"] = mask_fields(exchange.head.fields)
        self._publish(event)

    def answering(self, exchange: ClientExchange, head: bytes) -> None:
        """The answer's head is about to be sent."""
        if len(self._answers) < _FORGET:
            self._answers[exchange.request_id] = exchange.duration_s, head if self._wants_heads() else b""

    def finished(self, exchange: ClientExchange) -> None:
        """The request is over, well or badly."""
        head_s, head = self._answers.pop(exchange.request_id, (None, b""))
        error = exchange.error
        event = {
            "event": "answer",
            **_request_of(exchange),
            "status": exchange.status or (error.status if error is not None else 0),
            "bytes_in": exchange.body.received,
            "bytes_out": exchange.sent_bytes,
            "head_s": head_s,
            "seconds": exchange.duration_s,
            "route": exchange.route,
            "error": name_of(error),
        }
        if head:
            event["request_head"] = mask_fields(exchange.head.fields) if exchange.has_head else ()
            event["answer_head"] = mask_fields(read_head(head)[1])
        self._publish(event)


class HopObserver:
    """The hop between the gateway and one upstream; what ``forward.pool`` calls while somebody listens."""

    def __init__(self, hop: str, sight: Sight) -> None:
        self._hop = hop
        self._sight = sight

    def begun(self, head: bytes, body: bytes | Body | None) -> "WatchedHop":
        """A request is about to be sent."""
        return WatchedHop(self._hop, self._sight, head, body)


class WatchedHop:
    """One exchange with an upstream. Publishes once, when it is over."""

    def __init__(self, hop: str, sight: Sight, head: bytes, body: bytes | Body | None) -> None:
        line, fields = read_head(head)
        method, _, rest = line.partition(" ")
        self._publish = sight.publish
        self._wants_heads = sight.wants_heads()
        self._began = time.monotonic()
        self._sent = len(body) if isinstance(body, bytes) else 0
        self._event: Event = {
            "event": "hop",
            "time": time.time(),
            "hop": hop,
            "id": next((value for name, value in fields if name == "x-request-id"), ""),
            "method": method,
            "target": mask_target(rest.rpartition(" ")[0]),
        }
        if self._wants_heads:
            self._event["request_head"] = mask_fields(fields)

    def counted(self, body: Body) -> Body:
        """The body, its bytes counted on their way."""
        return dataclasses.replace(body, chunks=self._count(body.chunks))

    async def _count(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in chunks:
            self._sent += len(piece)
            yield piece

    def answered(self, status: int, fields: Iterable[Field]) -> None:
        """The head of the answer is here."""
        self._event |= {"status": status, "head_s": time.monotonic() - self._began}
        if self._wants_heads:
            self._event["answer_head"] = mask_fields(fields)

    def ended(self, received: int, *, is_complete: bool) -> None:
        """The answer was taken, all of it or as much as was wanted."""
        self._finish(received, "" if is_complete else "cut")

    def failed(self, error: BaseException) -> None:
        """There is no answer."""
        self._finish(0, name_of(error))

    def _finish(self, received: int, error: str) -> None:
        seconds = time.monotonic() - self._began
        empty = {"status": 0, "head_s": None}
        sizes = {"bytes_out": self._sent, "bytes_in": received, "seconds": seconds, "error": error}
        self._publish(empty | self._event | sizes)


def read_head(head: bytes) -> tuple[str, tuple[Field, ...]]:
    """The first line and the fields of a head that we made ourselves."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)


def _request_of(exchange: ClientExchange) -> Event:
    head = exchange.head if exchange.has_head else None
    return {
        "time": time.time(),
        "id": exchange.request_id,
        "client": exchange.peer.address,
        "scheme": exchange.peer.scheme,
        "method": head.method if head else "-",
        "target": mask_target(head.target) if head else "-",
    }


def name_of(error: BaseException | None) -> str:
    """The code of an error of ours, the class of another, "" for none."""
    if error is None:
        return ""
    return error.code if isinstance(error, GatewayError) else type(error).__name__
