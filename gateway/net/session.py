"""Owns the loop over one connection's requests: head, answer, rest, next. And the last net for every failure."""

import logging
from typing import Final

from gateway.errors import ClientGone, GatewayError, MalformedRequest
from gateway.http.exchange import ClientExchange
from gateway.http.parse import HEAD_END, head_too_large, parse_head
from gateway.http.reply import error_reply
from gateway.net.answer import HttpExchange
from gateway.net.connection import Connection, ConnectionContext, Phase

log = logging.getLogger("gateway.net")

EMPTY_LINES: Final = 4  # more before a request line are a way to keep a connection for nothing


async def serve_requests(connection: Connection) -> None:
    """Answer requests until the connection is over."""
    await Session(connection).run()


class Session:
    """The requests of one connection, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._empty_lines = 0

    async def run(self) -> None:
        """Until the client leaves, errs, or an answer ends the connection."""
        try:
            while True:
                exchange = await self._next_exchange()
                if exchange is None or not await self._answer(exchange):
                    break
        except ClientGone:
            pass
        except Exception:  # the last resort: one connection's bug is never another's
            log.exception("bug in the connection loop")
            self._connection.transport.abort()
        finally:
            if not self._connection.transport.is_closing() and self._connection.phase is not Phase.LINGER:
                self._connection.transport.close()

    async def _next_exchange(self) -> HttpExchange | None:
        self._connection.await_head()
        try:
            raw = await self._read_head()
            if raw is None:
                return None
            head = parse_head(raw, target_bytes=self._connection.limits.target_bytes)
        except ClientGone:
            return None
        except GatewayError as error:
            await self._refuse_head(error)
            return None
        self._connection.heads_read += 1
        self._connection.phase = Phase.ANSWER
        peer = self._connection.context.find_peer(self._connection.address, self._scheme, head)
        return HttpExchange(self._connection, head, peer)

    @property
    def _scheme(self) -> str:
        return "https" if self._connection.context.is_tls else "http"

    async def _read_head(self) -> bytes | None:
        inbox = self._connection.inbox
        searched = self._empty_lines = 0
        while True:
            while inbox.startswith(b"\r\n"):  # RFC 9112 section 2.2: an empty line or so before a request
                del inbox[:2]
                searched = 0
                self._empty_lines += 1
                if self._empty_lines > EMPTY_LINES:
                    raise MalformedRequest("These are only empty lines.")
            limit = self._connection.limits.head_bytes
            end = inbox.find(HEAD_END, max(0, searched - 3))
            if 0 <= end <= limit - 4:
                raw = bytes(inbox[: end + 4])
                del inbox[: end + 4]
                return raw
            if end >= 0 or len(inbox) > limit:
                raise head_too_large(limit)
            if inbox.count(b"\n", searched) != inbox.count(b"\r\n", max(0, searched - 1)):
                raise MalformedRequest("The request head has a bare LF.")  # its end would never be found
            if self._connection.is_eof or (self._connection.context.is_draining and not inbox):
                return None
            searched = len(inbox)
            await self._connection.more()

    async def _refuse_head(self, error: GatewayError) -> None:
        peer = self._connection.context.find_peer(self._connection.address, self._scheme, None)
        exchange = HttpExchange(self._connection, None, peer)
        exchange.error = error
        try:
            await exchange.reply(error_reply(error, request_id=exchange.request_id, as_html=False))
            await self._connection.linger()
        finally:
            self._connection.context.finished(exchange)

    async def _answer(self, exchange: HttpExchange) -> bool:
        """Have the request answered; True if another may follow on this connection."""
        await answer(self._connection.context, exchange)
        return not self._connection.transport.is_closing() and await self._can_go_on(exchange)

    async def _can_go_on(self, exchange: HttpExchange) -> bool:
        if self._connection.phase is Phase.TUNNEL:
            return False
        if not await self._rest_is_read(exchange):
            await self._connection.linger()
            return False
        # A client that closed its side may have sent more requests before: those are answered.
        return exchange.keeps_alive and (bool(self._connection.inbox) or not self._connection.is_eof)

    async def _rest_is_read(self, exchange: HttpExchange) -> bool:
        body = exchange.body
        if body.is_complete:
            return True
        if not exchange.keeps_alive:
            return False
        try:
            async for _ in body.chunks():
                pass
        except GatewayError:
            return False
        return True


async def answer(context: ConnectionContext, exchange: ClientExchange) -> None:
    """Have a request answered, whatever happens."""
    if context.observer is not None:
        context.observer.begun(exchange)
    try:
        await context.handler(exchange)
        if not exchange.is_finished:
            exchange.abort()
    except ClientGone as error:
        exchange.error = error
        exchange.abort()
    except GatewayError as error:
        await _answer_error(exchange, error)
    except Exception as bug:
        log.exception("bug while answering %s", exchange.request_id)
        await _answer_error(exchange, GatewayError(detail=repr(bug)))
    finally:
        context.finished(exchange)


async def _answer_error(exchange: ClientExchange, error: GatewayError) -> None:
    exchange.error = error
    if exchange.is_started:  # too late for a status: the cut is the message
        exchange.abort()
        return
    reply = error_reply(error, request_id=exchange.request_id, as_html=exchange.head.wants_html)
    try:
        await exchange.reply(reply)
    except ClientGone:
        exchange.abort()
