"""Owns what is made from the settings to answer requests: handlers, front doors, the backends of routes.

A reload makes all of it anew and puts it in the place of the old. Requests under way keep what they began with; a
backend that nobody wants any more is closed after its last request.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from gateway.blob import BlobDownload
from gateway.certificate_gate import Shown
from gateway.contract import load_secret
from gateway.core_api import CoreApi
from gateway.core_health import CoreHealth
from gateway.errors import Problem, SettingsError
from gateway.forward.backend import RouteBackend
from gateway.forward.circuits import Circuits, Upstream
from gateway.forward.handler import ForwardHandler
from gateway.forward.pool import UpstreamPool
from gateway.front import Forwarder, FrontDoor, Handlers, Hidden, RouteHandler
from gateway.http.exchange import ClientExchange, Peer
from gateway.http.fields import Networks, resolve_peer
from gateway.http.head import Fields, RequestHead
from gateway.maintenance import MaintenanceAnswers, MaintenanceSwitch
from gateway.net.blocks import BlockPool
from gateway.operations import Operations
from gateway.outbox import Outbox
from gateway.resumable.handler import ResumableUpload
from gateway.resumable.resource import UploadRecords
from gateway.settings import Core, Settings
from gateway.settings_routes import Route
from gateway.static_files import StaticFiles
from gateway.store.base import BlobStore
from gateway.tally import Kind, Tally
from gateway.upload.handler import UploadResources, WebUpload
from gateway.upload.parts import PartJournal, PartsIntake
from gateway.upload.progress import ProgressBoard
from gateway.upload.route_handler import RouteUpload
from gateway.upload.route_stores import RouteStores, open_route_stores
from gateway.upload.status import UploadStatus
from gateway.upload.threads import UploadThreads
from gateway.upload.transfer import Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """What the handlers work with, whatever the settings say: no reload replaces it."""

    store: BlobStore
    secret: bytes
    health: CoreHealth
    upstreams: UpstreamPool
    core_circuit: Upstream
    core: CoreApi
    outbox: Outbox
    threads: UploadThreads
    blocks: BlockPool
    board: ProgressBoard
    tally: Tally
    journal: PartJournal
    uploads: UploadRecords
    switch: MaintenanceSwitch
    circuits: Circuits
    static: StaticFiles
    render_metrics: Callable[[], tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A listener as a front door sees it. ``has_twin``: there is one with TLS, to which a plain one may redirect."""

    is_tls: bool
    has_twin: bool
    certificate: Shown | None


class Lease:
    """The backend of one route, for as long as requests use it."""

    def __init__(self, route: Route, core: Core, backend: RouteBackend) -> None:
        self.route = route
        self.core = core
        self.backend = backend
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._running += 1
        self._idle.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    async def close_when_idle(self) -> None:
        """Close the backend after the last request that uses it. No new one may come."""
        await self._idle.wait()
        await self.backend.aclose()


class _Leasing:
    """A route's handler. Whoever it answers uses the backend."""

    def __init__(self, handler: Forwarder, lease: Lease) -> None:
        self._handler = handler
        self._lease = lease

    async def handle(self, exchange: ClientExchange) -> None:
        """Answer."""
        with self._lease:
            await self._handler.handle(exchange)


class Wiring:
    """One set of all of it, for one state of the settings."""

    def __init__(self, lasting: Lasting, settings: Settings, before: "Wiring | None" = None) -> None:
        """``before``: the set of other settings; what is the same with these goes on.

        Raises: SettingsError, and then everything is as it was.
        """
        self.settings = settings
        self._lasting = lasting
        self.resources = UploadResources(
            store=lasting.store,
            pool=lasting.blocks,
            threads=lasting.threads,
            core=lasting.core,
            outbox=lasting.outbox,
            limits=settings.limits,
            board=lasting.board,
            running=lasting.tally.count(Kind.UPLOADS),
        )
        # Both know what has arrived by several requests, of which one may come before a reload and one after.
        self._parts: PartsIntake = before._parts if before else PartsIntake(self.resources, lasting.journal)
        self._resumable: ResumableUpload = ResumableUpload(
            self.resources,
            lasting.uploads,
            lasting.secret,
            settings.server,
            before._resumable if before else None,
        )
        self.route_stores: RouteStores = open_route_stores(
            settings, lasting.store, before.route_stores if before else None
        )
        self.leases: list[Lease] = []
        self._trusted = Networks(settings.server.trusted_proxies)
        self._admin = Networks(settings.server.admin_allow)
        try:
            self._answers = MaintenanceAnswers(settings)
        except OSError as exc:
            raise _wrong("maintenance.page", str(exc)) from exc
        self._handlers = self._made_handlers(before.leases if before else ())

    def front(self, place: Place) -> FrontDoor:
        """What answers on a listener."""
        return FrontDoor(
            self.settings,
            self._handlers,
            self._lasting.switch,
            self._answers,
            redirects=not place.is_tls and place.has_twin and self.settings.tls.redirect,
            certificate=place.certificate,
        )

    def find_peer(self, address: str, scheme: str, head: RequestHead | None) -> Peer:
        """Who asks, as far as those in between are believed."""
        fields = Fields() if head is None else head.fields
        return resolve_peer(address, scheme, fields, trusted=self._trusted, admin=self._admin)

    def replace_circuits(self, before: "Wiring | None") -> list[Lease]:
        """Only the circuits of this are reported and checked from now on; the leases that are not wanted any more."""
        known = before.leases if before is not None else []
        gone = [lease for lease in known if lease not in self.leases]
        for lease in gone:
            self._lasting.circuits.drop(lease.backend.upstream)
        for lease in self.leases:
            if lease not in known:
                self._lasting.circuits.add(lease.backend.upstream)
        return gone

    def _made_handlers(self, leases: Sequence[Lease]) -> Handlers:
        lasting, settings = self._lasting, self.settings
        return Handlers(
            forward=ForwardHandler(
                lasting.upstreams,
                limits=settings.limits,
                core=settings.core,
                health=lasting.health,
                upstream=lasting.core_circuit,
            ),
            upload=WebUpload(self.resources),
            transfer=Transfer(self.resources, self._parts, lasting.secret),
            blob=BlobDownload(lasting.store, lasting.secret),
            status=UploadStatus(lasting.outbox),
            resumable=self._resumable,
            operations=Operations(
                lasting.health, lasting.store, lasting.board, lasting.circuits, lasting.render_metrics
            ),
            challenges=settings.data_dir / "acme" / "challenges",
            static=lasting.static,
            routes=tuple(self._route_handlers(list(leases))),
        )

    def _route_handlers(self, known: list[Lease]) -> Iterator[RouteHandler]:
        stores = iter(self.route_stores)
        for route in self.settings.routes:
            if route.action == "hide":
                yield RouteHandler(route, Hidden())
                continue
            lease = self._lease(route, known)
            if route.action == "forward":
                yield RouteHandler(route, _Leasing(lease.backend, lease))
                continue
            upload = RouteUpload(
                route, self.resources, lease.backend, next(stores)[1], sign_key=self._sign_key(route)
            )
            yield RouteHandler(route, _Leasing(upload, lease), lease.backend.upstream)

    def _lease(self, route: Route, known: list[Lease]) -> Lease:
        """A route that is as it was keeps its connections, and what is known of its backend's health."""
        settings = self.settings
        lease = next((one for one in known if one.route == route and one.core == settings.core), None)
        if lease is not None:
            known.remove(lease)
        else:
            lease = Lease(
                route, settings.core, RouteBackend(route, limits=settings.limits, core=settings.core)
            )
        self.leases.append(lease)
        return lease

    def _sign_key(self, route: Route) -> bytes:
        path = route.sign_key_file or self.settings.data_dir / "secrets" / "routes.key"
        try:
            return load_secret(path)
        except (OSError, ValueError) as exc:
            raise _wrong("routes.sign_key_file", f"{path}: {exc}") from exc


def _wrong(where: str, what: str) -> SettingsError:
    return SettingsError((Problem(where=where, what=what),))
