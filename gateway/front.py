"""Owns the order of decisions for one request: redirect, maintenance, route, handler. And the core's absence."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from gateway.blob import BlobDownload
from gateway.certificate_gate import NOT_YET, CertificateGate, Shown
from gateway.contract import UPLOAD_STATUS_PREFIX
from gateway.errors import CoreDown, NotFound
from gateway.forward.circuits import Upstream
from gateway.http.exchange import ClientExchange
from gateway.http.head import RequestHead
from gateway.http.reply import Reply, redirect
from gateway.http.route import (
    ACME_PREFIX,
    OPERATIONS_PREFIX,
    Destination,
    ToAcme,
    ToBlob,
    ToCore,
    ToLegacyPush,
    ToOperations,
    ToResumable,
    ToTransfer,
    ToUpload,
    ToUploadStatus,
    choose_route,
    is_resumable,
)
from gateway.maintenance import (
    MaintenanceAnswers,
    MaintenanceState,
    MaintenanceSwitch,
    must_cut,
    parse_networks,
    refusal,
    static_api_reply,
)
from gateway.operations import Operations
from gateway.resumable.cors import Cors
from gateway.resumable.handler import ResumableUpload
from gateway.settings import Settings
from gateway.settings_routes import Route, normal_path
from gateway.static_files import StaticFiles
from gateway.store.asking import asking
from gateway.upload.handler import WebUpload
from gateway.upload.status import UploadStatus
from gateway.upload.transfer import Transfer

_SERVICE_DOWN: Final = "The service behind this address does not answer at the moment. Try again in a moment."


class Forwarder(Protocol):
    """Answers a request with the help of something behind the gateway."""

    async def handle(self, exchange: ClientExchange) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What can become of a request."""

    forward: Forwarder
    upload: WebUpload
    transfer: Transfer
    blob: BlobDownload
    status: UploadStatus
    resumable: ResumableUpload
    operations: Operations
    challenges: Path
    static: StaticFiles = field(default_factory=StaticFiles)
    routes: tuple["RouteHandler", ...] = ()


@dataclass(frozen=True, slots=True)
class RouteHandler:
    """One ``[[routes]]`` table and what answers it. ``upstream``: without it, nothing is even begun."""

    route: Route
    handler: Forwarder
    upstream: Upstream | None = None


class Hidden:
    """What answers a route with ``action = "hide"``: for whoever comes from outside there is nothing."""

    async def handle(self, exchange: ClientExchange) -> None:
        """Answer 404."""
        raise NotFound


class FrontDoor:
    """Answers every request. ``redirects`` is set for the plain listener when there is a TLS one."""

    def __init__(
        self,
        settings: Settings,
        handlers: Handlers,
        switch: MaintenanceSwitch,
        answers: MaintenanceAnswers,
        *,
        redirects: bool,
        certificate: Shown | None = None,
    ) -> None:
        """``certificate``: what the listener shows; None = it is a plain one."""
        self._settings = settings
        self._handlers = handlers
        self._switch = switch
        self._answers = answers
        self._redirects = redirects
        self._cors = Cors(settings.server.cors_origins)
        self._admin_allow = parse_networks(settings.server.admin_allow)
        self._public = urlsplit(settings.public_url)
        self._www_hosts = {f"www.{name}": name for name in self._own_names()}
        self._gate = CertificateGate(settings.tls, certificate)
        self._hsts = (("strict-transport-security", settings.tls.hsts),) if settings.tls.hsts else ()

    def _own_names(self) -> set[str]:
        return {
            name.lower().removesuffix(".")
            for name in (self._public.hostname or "", *self._settings.server.server_names)
            if name
        }

    async def handle(self, exchange: ClientExchange) -> None:
        """Answer. Raises: what has a status of its own; the connection turns that into the answer."""
        head = exchange.head
        asking.set(exchange.request_id)  # a task answers one request at a time
        if self._gate.is_waiting and self._awaits_certificate(exchange):
            await self._turn_away(exchange, None, NOT_YET)
            return
        if exchange.peer.scheme == "https":
            exchange.extra_fields = self._hsts
        moved = self._moved(head, exchange.peer.scheme)
        if moved is not None:
            exchange.route = "redirect"
            self._open_to_pages(exchange)
            await exchange.reply(moved)
            return
        state = self._switch.current()
        if state is not None and self._refuses(state, exchange):
            if not await self._tells_of_an_upload(exchange):
                await self._turn_away(exchange, state)
            return
        self._gate.admit(exchange)
        try:
            await self._dispatch(exchange)
        except CoreDown as error:
            if exchange.is_started:
                raise
            exchange.error = error
            await exchange.reply(self._without_upstream(exchange, error, state))

    def _awaits_certificate(self, exchange: ClientExchange) -> bool:
        """Whether it is for a page that stays closed; not even a redirect is believed from who may be anybody."""
        head, peer = exchange.head, exchange.peer
        return refusal(
            MaintenanceState(), method=head.method, path=head.path, peer=peer, admin_allow=self._admin_allow
        )

    def _refuses(self, state: MaintenanceState, exchange: ClientExchange) -> bool:
        head = exchange.head
        own = self._own_route(head.path)
        if own is not None and own.route.action == "hide":
            return False  # there is nothing to wait for
        return refusal(
            state,
            method=head.method,
            path=head.path,
            peer=exchange.peer,
            admin_allow=self._admin_allow,
            takes_uploads=None if own is None else own.route.action == "upload",
        ) and not (own is None and (self._is_question(head) or self._is_spooled(state, head)))

    def _is_spooled(self, state: MaintenanceState, head: RequestHead) -> bool:
        """Whether it belongs to an upload that waits until the registry opens again."""
        if state.mode != "full" or not self._settings.maintenance.spool:
            return False
        is_known = head.fields.has("authorization") or head.fields.has("cookie")
        is_upload = is_resumable(head.path) or (head.path == "/upload" and head.method == "POST")
        return is_known and is_upload

    def _is_question(self, head: RequestHead) -> bool:
        """Whether a browser asks if it may send to ``/uploads``; without a yes its page could not read our answer."""
        return head.method == "OPTIONS" and is_resumable(head.path) and bool(self._cors.preflight(head))

    def _open_to_pages(self, exchange: ClientExchange) -> None:
        """What is answered in the place of the resumable uploads can be read by the same pages as they."""
        if is_resumable(exchange.head.path):
            exchange.extra_fields = (*exchange.extra_fields, *self._cors.fields(exchange.head))

    async def _tells_of_an_upload(self, exchange: ClientExchange) -> bool:
        """Answer what became of an upload that we promised to tell about, whatever is closed: it needs nobody else.

        False for every other request, and for an upload that nobody knows: 404 is no answer during maintenance.
        """
        head = exchange.head
        if self._own_route(head.path) is not None or head.method not in {"GET", "HEAD"}:
            return False
        if not head.path.startswith(UPLOAD_STATUS_PREFIX):
            return False
        self._gate.admit(exchange)
        exchange.route = "uploadstatus"
        try:
            await self._handlers.status.handle(exchange, head.path.removeprefix(UPLOAD_STATUS_PREFIX))
        except NotFound:
            return False
        return True

    async def _turn_away(
        self, exchange: ClientExchange, state: MaintenanceState | None, message: str = ""
    ) -> None:
        head = exchange.head
        exchange.route = "maintenance"
        if must_cut(head):
            exchange.abort()
            return
        self._open_to_pages(exchange)
        # What belongs to a page of one's own comes with it, or the page would lose its style.
        asset = self._answers.asset(head)
        answer = asset or self._answers.answer(state, head, exchange.request_id, message=message)
        # A connection keeps the certificate that it began with: the next request shall see the new one.
        await exchange.reply(replace(answer, closes=answer.closes or self._gate.is_waiting))

    def _without_upstream(
        self, exchange: ClientExchange, error: CoreDown, state: MaintenanceState | None
    ) -> Reply:
        """The answer in the place of the core, or of the backend of a route, that does not answer."""
        head, request_id = exchange.head, exchange.request_id
        if self._own_route(head.path) is not None:
            # Whoever asks for another service knows of no registry; and its /version is not ours to tell.
            message = _SERVICE_DOWN if error.message == CoreDown.default_message else error.message
            return self._answers.asset(head) or self._answers.answer(None, head, request_id, message=message)
        if state is not None and self._is_spooled(state, head):
            return self._answers.answer(state, head, request_id)
        static = static_api_reply(head.path, self._settings) if head.method in {"GET", "HEAD"} else None
        return static or self._answers.answer(None, head, request_id, message=error.message)

    def _moved(self, head: RequestHead, scheme: str) -> Reply | None:
        """308 to the name and scheme that count: keeps method, path and query."""
        if head.path.startswith((ACME_PREFIX, OPERATIONS_PREFIX)):
            return None
        host, port = _split_port(head.host)
        host = host.removesuffix(".")  # the same name, fully qualified: browsers and resolvers keep the dot
        apex = self._www_hosts.get(host)
        if self._redirects and scheme == "http":
            authority = (
                self._public.netloc
                if host in {"", self._public.hostname}
                else self._https_authority(apex or host)
            )
            return redirect(308, f"https://{authority}{head.target}")
        if apex is not None:
            return redirect(308, f"{scheme}://{apex}{port}{head.target}")
        return None

    def _https_authority(self, host: str) -> str:
        https = self._settings.server.https or ""
        port = https.rpartition(":")[2]
        return host if port in {"", "443"} else f"{host}:{port}"

    async def _dispatch(self, exchange: ClientExchange) -> None:
        own = self._own_route(exchange.head.path)
        if own is not None:
            exchange.route = own.route.place
            if own.upstream is not None:
                own.upstream.refuse_while_open()
            await own.handler.handle(exchange)
            return
        route = choose_route(exchange.head)
        exchange.route = type(route).__name__.removeprefix("To").lower()
        await self._hand_over(exchange, route)

    async def _hand_over(self, exchange: ClientExchange, route: Destination) -> None:
        handlers = self._handlers
        match route:
            case ToCore():
                await self._forward(exchange)
            case ToUpload():
                await handlers.upload.handle(exchange)
            case ToTransfer():
                await handlers.transfer.handle_put(exchange)
            case ToLegacyPush():
                await handlers.transfer.handle_legacy(exchange)
            case ToBlob():
                await handlers.blob.handle(exchange)
            case ToUploadStatus(upload_id=upload_id):
                await handlers.status.handle(exchange, upload_id)
            case ToResumable():
                await handlers.resumable.handle(exchange)
            case ToOperations(page=page):
                await handlers.operations.handle(exchange, page)
            case ToAcme(token=token):
                await self._answer_challenge(exchange, token)

    def _own_route(self, path: str) -> RouteHandler | None:
        """What the first route that matches is answered by."""
        routes = self._handlers.routes
        if not routes or path.startswith((ACME_PREFIX, OPERATIONS_PREFIX)):
            return None
        normal = normal_path(path)
        return next((own for own in routes if own.route.matches(normal)), None)

    async def _forward(self, exchange: ClientExchange) -> None:
        asset = self._answers.asset(exchange.head)
        if asset is not None:
            await exchange.reply(asset)
            return
        # Not only while the core is away: one way, which is tried all the time, and no hold of a core that restarts.
        static = self._handlers.static.answer(exchange.head)
        if static is not None:
            exchange.route = "static"
            await exchange.reply(static)
            return
        await self._handlers.forward.handle(exchange)

    async def _answer_challenge(self, exchange: ClientExchange, token: str) -> None:
        # The token becomes a file name: only what RFC 8555 section 8.3 lets it be.
        if not token or not all(c.isascii() and (c.isalnum() or c in "-_") for c in token):
            raise NotFound
        try:
            answer = (self._handlers.challenges / token).read_bytes()
        except OSError as exc:
            raise NotFound from exc
        await exchange.reply(
            Reply(status=200, fields=(("content-type", "application/octet-stream"),), body=answer)
        )


def _split_port(host: str) -> tuple[str, str]:
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and not name.endswith(":"):
        return name, f":{port}"
    return host, ""
