"""Owns the registry's ASGI application: its routes, its errors, and what runs beside it."""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio.to_thread import current_default_thread_limiter
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import GatewayError, MethodNotAllowed, NotFound
from gateway.store.asking import asking
from registry_core.chores import Chores
from registry_core.rates import RateGate, RateLimit
from registry_core.registry import Registry
from registry_core.routes import discovery, images, internal, library, outside, pages
from registry_core.routes.pages_frame import Site, answer_failure, open_site
from registry_core.trace import told_to_trace

log = logging.getLogger(__name__)

# Requests that work at once; each holds a database connection for milliseconds.
_THREADS: Final = 32
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NO_SUCH_METHOD: Final = 405


class Edge:
    """Around everything: the request's id, doubled slashes, and the last net for mistakes of ours."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        asking.set(request_id)  # the store's exchanges with S3 are for this request
        scope.setdefault("state", {})["request_id"] = request_id
        scope["app"] = self._app  # by this, routes know that refusals are exceptions here, not answers
        if "//" in scope["path"]:
            scope["path"] = re.sub("/{2,}", "/", scope["path"])  # old clients: v1/images//name
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            return  # whoever asked is gone: nobody is there to be answered, and nothing went wrong here
        except Exception:
            log.exception("%s %s %s", request_id, scope["method"], scope["path"])
            if started:
                raise
            answer = await answer_failure(self._site, Request(scope), GatewayError())
            await answer(scope, receive, send_with_id)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return secrets.token_hex(8)


def failure_of(error: Exception) -> GatewayError:
    """The failure to tell of: ours, or what Starlette itself refuses (unknown paths and methods)."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, HTTPException) and error.status_code == _NO_SUCH_METHOD:
        return MethodNotAllowed(headers=(("allow", (error.headers or {}).get("Allow", "")),))
    return NotFound()


def build_app(registry: Registry) -> ASGIApp:
    """The application that serves one registry."""

    @asynccontextmanager
    async def lifespan(_app: Router) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = _THREADS
        registry.database.quick.be_impatient_here()
        chores = Chores(registry)
        chores.start()
        try:
            async with told_to_trace(registry):
                yield
        finally:
            chores.stop()
            registry.database.close()

    site = open_site(registry)

    async def answer_error(request: Request, error: Exception) -> Response:
        return await answer_failure(site, request, failure_of(error))

    # Not the class Starlette: its own net would answer before ours, and without the envelope.
    router = Router(
        routes=[
            *images.routes(registry),
            *internal.routes(registry),
            *discovery.routes(registry),
            *library.routes(registry),
            *outside.routes(registry),
            *pages.routes(site),
        ],
        redirect_slashes=False,  # a redirect turns a client's POST into a GET
        lifespan=lifespan,
    )
    settings = registry.settings.registry
    gate = RateGate(
        router,
        tokens=RateLimit(per_s=settings.token_requests_per_s, clock=time.monotonic),
        addresses=RateLimit(per_s=settings.address_requests_per_s, clock=time.monotonic),
    )
    handlers = {GatewayError: answer_error, HTTPException: answer_error}
    return Edge(ExceptionMiddleware(gate, handlers=handlers), site)
