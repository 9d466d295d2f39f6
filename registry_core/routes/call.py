"""Owns what every API endpoint gets and gives: a whole request, and a JSON answer or an error in the envelope.

Endpoints are plain functions of ``(Registry, Call)``; they run in a worker thread, for the database blocks.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final
from urllib.parse import parse_qsl

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.errors import BadForm, BodyTooLarge, GatewayError
from registry_core.errors import QuotaExceeded, Refusal
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo.database import again
from registry_core.repo.quick import WouldWait
from registry_core.service import identity, places, quota

log = logging.getLogger(__name__)

# _multipart_complete with 10,000 parts is 0.6 MB; nothing else comes near.
MOST_BODY_BYTES: Final = 2 << 20
_SERVER_ERROR: Final = 500
_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``body`` is sent as JSON; None sends nothing."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Call:
    """One request, its body read."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.method: str = request.method
        self.path: str = request.scope["path"]
        self.headers: Headers = request.headers
        self.params: Mapping[str, str] = request.path_params
        self.body = body
        self._query_string: bytes = request.scope["query_string"]
        self._peer = request.client.host if request.client else ""

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query's first value of each name. Singularity 3.7.0 escapes the whole query: ``?arch%3Damd64``."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self._query_string.decode("latin-1"), keep_blank_values=True):
            if not value and "=" in name:
                name, _, value = name.partition("=")  # noqa: PLW2901
            # No database takes a NUL in a text; this finds nothing, as it should.
            found.setdefault(name, value.replace("\0", "\ufffd"))
        return found

    @property
    def target(self) -> str:
        """Path and query as they came."""
        query = self._query_string.decode("latin-1")
        return f"{self.path}?{query}" if query else self.path

    @property
    def arch(self) -> str:
        """The architecture that is asked for, or ""."""
        return self.query.get("arch", "").strip().lower()

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The body's object with its names in lower case; clients send it without a Content-Type.

        Raises: BadForm.
        """
        if not self.body.strip():
            return {}
        try:
            value = json.loads(self.body.decode("utf-8-sig"))
        except (ValueError, RecursionError) as exc:
            raise BadForm("The body is not JSON.") from exc
        if b"\\u" in self.body:  # only so can JSON hold what no database and no answer takes
            _check_texts(value)
        if not isinstance(value, dict):
            raise BadForm("The body must be a JSON object.")
        return {str(name).lower(): item for name, item in value.items()}

    def text(self, name: str) -> str:
        """A text of the body; "" if it is missing. Raises: BadForm."""
        value = self.json.get(name, "")
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadForm(f"The field '{name}' must be a text.")
        return value

    def number(self, name: str) -> int:
        """A whole number of the body; 0 if it is missing. Raises: BadForm."""
        value = self.json.get(name, 0)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadForm(f"The field '{name}' must be a whole number.")
        return value

    def flag(self, name: str) -> bool | None:
        """A truth value of the body; None if it is missing. Raises: BadForm."""
        value = self.json.get(name)
        if value is not None and not isinstance(value, bool):
            raise BadForm(f"The field '{name}' must be true or false.")
        return value

    def id_param(self, name: str) -> int:
        """An id in the path. Raises: NotFound."""
        return places.parse_id(self.params[name])

    @property
    def client(self) -> str:
        """The client's address: the gateway vouches for it."""
        return self.headers.get("x-real-ip", "") or self._peer

    def actor(self, registry: Registry) -> Actor | None:
        """Who asks. A browser session must send its CSRF token with everything that changes something.

        Raises: Unauthorized, Forbidden.
        """
        actor = identity.authenticate(
            registry,
            authorization=self.headers.get("authorization", ""),
            cookie=self.headers.get("cookie", ""),
        )
        if self.method not in {"GET", "HEAD"}:
            identity.check_csrf(actor, self.headers.get("x-csrf-token", ""))
        return actor


def _check_texts(value: Any) -> None:
    """Raises: BadForm for a text with NULs or halves of characters."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and not is_text(one):
            raise BadForm("The body holds characters that are no text.")


def is_text(value: str) -> bool:
    """Whether every database and every answer takes it: no NULs, no halves of characters."""
    return "\0" not in value and value.encode("utf-8", "replace").decode() == value


type Endpoint = Callable[[Registry, Call], Answer]


class ApiEndpoint:
    """What answers at one path, as ASGI: Starlette's own frame around a function costs as much as the function."""

    def __init__(
        self,
        registry: Registry,
        methods: Mapping[str, Endpoint],
        *,
        limiter: CapacityLimiter | None,
        at_once: bool,
    ) -> None:
        self._registry = registry
        self._methods = methods
        self._limiter = limiter
        self._at_once = at_once and registry.database.is_sqlite

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method = request.method
        if method == "HEAD" and "HEAD" not in self._methods:
            method = "GET"
        body = await read_body(request) if method not in {"GET", "HEAD"} else b""
        work = partial(self._methods[method], self._registry, Call(request, body))
        answer = await self._work(work, at_once=self._at_once and method == "GET")
        await respond(answer)(scope, receive, send)

    async def _work(self, work: Callable[[], Answer], *, at_once: bool) -> Answer:
        if at_once:
            try:
                return work()
            except WouldWait:
                pass
        return await run_sync(self._with_time, work, limiter=self._limiter)

    def _with_time(self, work: Callable[[], Answer]) -> Answer:
        try:
            return again(work)
        except QuotaExceeded as exc:
            if exc.refusal is not None:
                self._tell(exc.refusal)
            raise

    def _tell(self, refusal: Refusal) -> None:
        try:
            again(partial(quota.tell, self._registry, refusal))
        except GatewayError as exc:
            log.warning("webhooks will not hear of a push without room to %s: %s", refusal.where, exc)


def api_route(
    registry: Registry,
    path: str,
    methods: Mapping[str, Endpoint],
    *,
    limiter: CapacityLimiter | None = None,
    at_once: bool = False,
) -> Route:
    """A route whose endpoint depends on the method. ``limiter`` gives it threads that are not everybody's.

    ``at_once`` tries a GET without a thread first, where the database can answer without waiting: the way to a
    thread and back costs more than what such an endpoint does. It must not ask a store or another server.
    """
    endpoint = ApiEndpoint(registry, methods, limiter=limiter, at_once=at_once)
    return Route(path, endpoint, methods=list(methods))


async def read_body(request: Request, *, most: int = MOST_BODY_BYTES) -> bytes:
    """The whole body. Raises: BodyTooLarge."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise BodyTooLarge(f"The body of this call may have at most {most} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def respond(answer: Answer) -> Response:
    """The answer's bytes."""
    headers = {"cache-control": "no-store", **answer.headers}
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    content = _JSON.encode(answer.body).encode()
    return Response(content, answer.status, headers, "application/json")


def respond_error(error: GatewayError, request_id: str) -> Response:
    """The envelope that real clients read."""
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status >= _SERVER_ERROR:
        log.error("%s %s: %s", request_id, error.code, error)
    body = {"error": {"code": error.status, "message": error.message}, "request_id": request_id}
    return respond(Answer(status=error.status, body=body, headers=headers))


def data(value: Any, *, status: int = 200) -> Answer:
    """An answer in the success envelope."""
    return Answer(status=status, body={"data": value})
