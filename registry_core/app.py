"""Owns the registry's ASGI application: its routes, its errors, and what runs beside it."""

import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import GatewayError, MethodNotAllowed, NotFound
from registry_core.chores import Chores
from registry_core.registry import Registry
from registry_core.routes import discovery, images, internal, library
from registry_core.routes.call import respond_error

log = logging.getLogger(__name__)

# Requests that work at once; each holds a database connection for milliseconds.
_THREADS: Final = 32
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NO_SUCH_METHOD: Final = 405


class Edge:
    """Around everything: the request's id, doubled slashes, and the last net for mistakes of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        if "//" in scope["path"]:
            scope["path"] = re.sub("/{2,}", "/", scope["path"])  # old clients: v1/images//name
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("%s %s %s", request_id, scope["method"], scope["path"])
            if started:
                raise
            await respond_error(GatewayError(), request_id)(scope, receive, send_with_id)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return secrets.token_hex(8)


def request_id_of(request: Request) -> str:
    """The id that the answer carries."""
    return str(request.state.request_id)


async def answer_error(request: Request, error: Exception) -> Response:
    """A failure with an answer of its own."""
    assert isinstance(error, GatewayError)  # noqa: S101 – registered for these
    return respond_error(error, request_id_of(request))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 – registered for these
    if error.status_code == _NO_SUCH_METHOD:
        allow = (error.headers or {}).get("Allow", "")
        return respond_error(MethodNotAllowed(headers=(("allow", allow),)), request_id_of(request))
    return respond_error(NotFound(), request_id_of(request))


def build_app(registry: Registry) -> ASGIApp:
    """The application that serves one registry."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = _THREADS
        chores = Chores(registry)
        chores.start()
        try:
            yield
        finally:
            chores.stop()
            registry.database.close()

    app = Starlette(
        routes=[
            *images.routes(registry),
            *internal.routes(registry),
            *discovery.routes(registry),
            *library.routes(registry),
        ],
        exception_handlers={GatewayError: answer_error, HTTPException: answer_http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect turns a client's POST into a GET
    return Edge(app)
