"""Owns the composition: settings in, a running gateway out. Alone knows all other modules.

One process serves; with ``--workers N`` the main process only holds the listeners, the core and N such processes.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.blob import BlobDownload
from gateway.contract import load_secret
from gateway.control import Control
from gateway.core_api import CoreApi
from gateway.core_health import CoreHealth, probe_of
from gateway.encryption import certificate_jobs, open_keeper, open_tls
from gateway.errors import GatewayError
from gateway.forward.backend import RouteBackend
from gateway.forward.circuits import Circuits, core_upstream
from gateway.forward.handler import ForwardHandler
from gateway.forward.pool import UpstreamPool
from gateway.front import FrontDoor, Handlers, RouteHandler
from gateway.gauges import Gauges
from gateway.http.exchange import ClientExchange, Peer
from gateway.http.fields import Networks, resolve_peer
from gateway.http.head import Fields, RequestHead
from gateway.lifecycle import (
    Ended,
    ended_by_signal,
    loop_factory,
    make_control,
    persistent,
    reloading,
    say_ready,
    start_core,
    wait_workers,
)
from gateway.listeners import open_listeners
from gateway.log import log_access, set_up_logging
from gateway.maintenance import MaintenanceAnswers, MaintenanceSwitch
from gateway.metrics import Metrics
from gateway.net.blocks import BlockPool
from gateway.net.connection import ConnectionContext
from gateway.net.server import Server, drain, keep_deadlines, most_connections, raise_file_limit
from gateway.operations import Operations
from gateway.outbox import Outbox
from gateway.resumable.handler import ResumableUpload
from gateway.resumable.resource import UploadRecords
from gateway.settings import Settings
from gateway.settings_source import LoadedSettings
from gateway.spool import Spool
from gateway.store.asking import CarryingThreads
from gateway.store.opening import open_store, renew_keys
from gateway.supervise import Child, Workers, core_program, worker_number
from gateway.systemd import keep_watchdog, notify
from gateway.tally import Kind, open_tally
from gateway.trace.events import Hop
from gateway.trace.feed import TraceFeed
from gateway.trace.hops import hops_of
from gateway.upload.handler import UploadResources, WebUpload
from gateway.upload.parts import PartJournal, PartsIntake
from gateway.upload.progress import ProgressBoard
from gateway.upload.route_handler import RouteUpload
from gateway.upload.route_stores import open_route_stores, renew_route_keys, sweep_route_stores
from gateway.upload.status import UploadStatus
from gateway.upload.transfer import Transfer

log = logging.getLogger("gateway")

WORKER_THREADS: Final = 64  # an upload needs two; a slow store holds its thread, so there are more than cores
PARTS_KEPT_S: Final = 86400.0  # a push in parts that nobody went on with for a day is over
OPERATIONS_ROUTE: Final = "operations"
COMMIT_PATIENCE_S: Final = 3.0
STORE_SWEEP_EVERY_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """How the gateway was started: settings given as flags, and all arguments (to start workers alike)."""

    flags: Mapping[str, Any]
    arguments: Sequence[str]


class Gateway:
    """One serving process."""

    def __init__(self, settings: Settings, *, owns_core: bool) -> None:
        self.settings = settings
        self.store = open_store(settings)
        self.secret = load_secret(settings.secret_file)
        self.core_url = settings.core.url or f"unix:{settings.core_socket.absolute()}"
        self.probe = probe_of(self.core_url, self.secret)
        self.health = CoreHealth(
            self.probe,
            is_own=owns_core,
            hold_s=settings.core.hold_s,
            start_hold_s=settings.core.start_hold_s,
        )
        self.upstreams = UpstreamPool(
            self.core_url,
            connections=settings.core.connections,
            connect_s=settings.core.connect_s,
        )
        self.switch = MaintenanceSwitch(settings.data_dir)
        self.tally = open_tally(os.environ, worker=worker_number(os.environ))
        self.circuits = Circuits()
        self.core_circuit = self.circuits.add(core_upstream(settings.core))
        self.core = CoreApi(
            self.upstreams,
            self.secret,
            self.health,
            settings.core,
            upstream=self.core_circuit,
            spool=Spool(settings, self.secret, self.switch) if settings.maintenance.spool else None,
        )
        self.outbox = Outbox(
            settings.data_dir / "outbox",
            self.store,
            self.core,
            self.health,
            durable=settings.storage.disk.fsync,
            patience_s=COMMIT_PATIENCE_S,
        )
        self.workers = CarryingThreads(WORKER_THREADS, thread_name_prefix="store")
        self.metrics = Metrics(settings.data_dir, self.health, is_shared=settings.server.workers > 1)
        is_shared = settings.server.workers > 1
        self.board = ProgressBoard(settings.data_dir / "run" / "progress" if is_shared else None)
        self.journal = PartJournal(settings.data_dir / "parts")
        self.uploads = UploadRecords(settings.data_dir / "resumable", durable=settings.storage.disk.fsync)
        self.tls = open_tls(settings)
        self.keeper = open_keeper(settings, self.tls)
        self._trusted = Networks(settings.server.trusted_proxies)
        self._admin = Networks(settings.server.admin_allow)
        self.backends: list[RouteBackend] = []
        # Not with the handlers: the sweep at the start, and the holder of several workers, come before any.
        self.route_stores = open_route_stores(settings, self.store)
        self.contexts: list[ConnectionContext] = []
        self.servers: list[Server] = []
        self.trace = TraceFeed(settings.data_dir / "run", self.contexts, self._hops)

    def handlers(self) -> Handlers:
        """Every handler, sharing one set of resources."""
        resources = UploadResources(
            store=self.store,
            pool=BlockPool(self.settings.limits.buffer_bytes),
            workers=self.workers,
            core=self.core,
            outbox=self.outbox,
            limits=self.settings.limits,
            board=self.board,
            running=self.tally.count(Kind.UPLOADS),
        )
        return Handlers(
            forward=ForwardHandler(
                self.upstreams,
                limits=self.settings.limits,
                core=self.settings.core,
                health=self.health,
                upstream=self.core_circuit,
            ),
            upload=WebUpload(resources),
            transfer=Transfer(resources, PartsIntake(resources, self.journal), self.secret),
            blob=BlobDownload(self.store, self.secret),
            status=UploadStatus(self.outbox),
            resumable=ResumableUpload(resources, self.uploads, self.secret, self.settings.server),
            operations=Operations(self.health, self.store, self.board, self.circuits, self.metrics.render),
            challenges=self.settings.data_dir / "acme" / "challenges",
            routes=tuple(self._route_handlers(resources)),
        )

    def _hops(self) -> Iterator[Hop]:
        stores = (self.store, *(store for _, store in self.route_stores))
        return hops_of(self.upstreams, self.backends, stores, self.settings)

    def _route_handlers(self, resources: UploadResources) -> Iterator[RouteHandler]:
        settings, stores = self.settings, iter(self.route_stores)
        for route in (route for route in settings.routes if route.action != "hide"):
            backend = RouteBackend(route, limits=settings.limits, core=settings.core, circuits=self.circuits)
            self.backends.append(backend)
            if route.action == "forward":
                yield RouteHandler(route, backend)
                continue
            key = load_secret(route.sign_key_file or settings.data_dir / "secrets" / "routes.key")
            upload = RouteUpload(route, resources, backend, next(stores)[1], sign_key=key)
            yield RouteHandler(route, upload, backend.upstream)

    async def listen(self, sockets: Mapping[str, socket.socket]) -> None:
        """Accept on the given listeners (``http``, ``https``)."""
        settings, handlers = self.settings, self.handlers()
        answers = MaintenanceAnswers(settings)
        balancers = Networks(nets) if (nets := settings.server.proxy_protocol) else None
        for name, listener in sockets.items():
            is_tls = name.startswith("https")
            front = FrontDoor(
                settings,
                handlers,
                self.switch,
                answers,
                redirects=not is_tls and "https" in sockets and settings.tls.redirect,
                certificate=self.tls if is_tls else None,
            )
            context = ConnectionContext(
                handler=front.handle,
                find_peer=self._find_peer,
                limits=settings.limits,
                most_here=most_connections(settings.limits, listeners=len(sockets)),
                in_use=self.tally.count(Kind.CONNECTIONS),
                is_tls=is_tls,
                offers_http2=is_tls and settings.server.http2,
                finished=self._finished,
            )
            server = Server(
                listener,
                context,
                tls=self.tls.context if is_tls and self.tls is not None else None,
                handshake_s=settings.tls.handshake_s,
                balancers=balancers,
            )
            await server.start()
            self.contexts.append(context)
            self.servers.append(server)

    def _find_peer(self, address: str, scheme: str, head: RequestHead | None) -> Peer:
        fields = Fields() if head is None else head.fields
        return resolve_peer(address, scheme, fields, trusted=self._trusted, admin=self._admin)

    def _finished(self, exchange: ClientExchange) -> None:
        if self.trace.is_on:
            self.trace.finished(exchange)
        self.metrics.count(exchange)
        if self.settings.log.access and exchange.route != OPERATIONS_ROUTE:  # probes come every few seconds
            log_access(exchange)

    async def background(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start what goes on beside the requests."""
        jobs: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "core health": self.health.run,
            "outbox": self.outbox.run,
            "deadlines": lambda: keep_deadlines(self.contexts),
            "sweep": self._sweep_now_and_then,
            "gauges": self._gauges().run,
            "circuits": self.circuits.run,
            "watchdog": lambda: keep_watchdog(os.environ),
            "trace": self.trace.run,
        }
        jobs |= certificate_jobs(self.settings, self.tls, self.keeper)
        return [group.create_task(persistent(name, job)) for name, job in jobs.items()]

    def _gauges(self) -> Gauges:
        return Gauges(
            self.metrics,
            board=self.board,
            outbox=self.outbox,
            circuits=self.circuits,
            switch=self.switch,
            servers=self.servers,
            certificate=self.tls,
            host=urlsplit(self.settings.public_url).hostname or "",
            is_shared=self.settings.server.workers > 1,
        )

    async def _sweep_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(STORE_SWEEP_EVERY_S)
            await asyncio.to_thread(sweep, self)

    def control(
        self, command: CommandLine, sockets: Mapping[str, socket.socket], core: Child | None, ended: Ended
    ) -> Control:
        """What the ``gateway`` command may ask of this process."""
        return make_control(
            self.settings,
            arguments=command.arguments,
            sockets=sockets,
            core=core,
            probe=self.probe,
            ended=ended,
        )

    def reload(self, fresh: Settings | None) -> None:
        """Take up a new certificate, and the keys of S3 that ``fresh`` settings name (SIGHUP)."""
        if fresh is not None:
            renew_keys(self.store, fresh)
            renew_route_keys(self.route_stores, fresh)
        if self.tls is not None and (problem := self.tls.reload()):
            log.error("the certificate stays as it is: %s", problem)

    async def stop(self) -> None:
        """Let running requests finish, then end."""
        left = await drain(self.servers, deadline_s=self.settings.server.drain_s)
        if left:
            log.warning("%d connections were cut at the end of the drain", left)
        await self.outbox.aclose()
        await self.upstreams.aclose()
        for backend in self.backends:
            await backend.aclose()
        self.workers.shutdown(wait=False, cancel_futures=True)


def sweep(gateway: Gateway) -> None:
    """Remove what dead uploads left behind, but nothing that was promised. Blocks."""
    count = sweep_route_stores(gateway.route_stores)
    try:
        if not gateway.outbox.recover():
            log.warning("sweep: put off until the store takes what the outbox has for it")
            return
        count += gateway.store.sweep(parts_older_than_s=PARTS_KEPT_S)
        count += gateway.journal.sweep(older_than=time.time() - PARTS_KEPT_S)
        count += gateway.uploads.sweep(gateway.store.discard_staged)
    except (GatewayError, OSError) as exc:
        log.warning("sweep: %s", exc)
    if count:
        log.info("sweep: removed what %d unfinished uploads left behind", count)


def serve(loaded: LoadedSettings, command: CommandLine) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises: SettingsError before anything is served."""
    settings = loaded.settings
    set_up_logging(settings.log)
    raise_file_limit()
    settings.data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    is_worker = worker_number(os.environ) is not None
    sockets = open_listeners(settings)
    if settings.server.workers > 1 and not is_worker:
        main = _hold(loaded, command, sockets)
    else:
        main = _serve(loaded, command, sockets, is_worker=is_worker)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)
    return 0


async def _serve(
    loaded: LoadedSettings, command: CommandLine, sockets: dict[str, socket.socket], *, is_worker: bool
) -> None:
    settings = loaded.settings
    # asyncio's own default of six threads would make fsyncs wait for each other.
    asyncio.get_running_loop().set_default_executor(CarryingThreads(WORKER_THREADS, thread_name_prefix="io"))
    gateway = Gateway(settings, owns_core=not settings.core.url)
    if not is_worker:
        await asyncio.to_thread(sweep, gateway)
    core = None if settings.core.url or is_worker else _core_child(loaded, command, gateway.health)
    ended = ended_by_signal(on_hangup=reloading(loaded, command.flags, gateway.reload, core))
    async with asyncio.TaskGroup() as group:
        jobs: list[asyncio.Task[Any]] = [*await start_core(group, core, settings.core_socket, gateway.probe)]
        await gateway.listen(sockets)
        jobs += await gateway.background(group)
        if not is_worker:
            jobs.append(group.create_task(gateway.control(command, sockets, core, ended).run()))
        say_ready(f"ready: {settings.public_url}")
        await ended
        notify("STOPPING=1", os.environ)
        await gateway.stop()
        if core is not None:
            await core.stop()
        for job in jobs:
            job.cancel()


async def _hold(loaded: LoadedSettings, command: CommandLine, sockets: dict[str, socket.socket]) -> None:
    settings = loaded.settings
    gateway = Gateway(settings, owns_core=False)
    await asyncio.to_thread(sweep, gateway)
    workers = Workers(settings.server.workers, arguments=command.arguments, sockets=sockets)
    core = None if settings.core.url else _core_child(loaded, command, gateway.health)
    ended = ended_by_signal(on_hangup=reloading(loaded, command.flags, gateway.reload, core, workers))
    async with asyncio.TaskGroup() as group:
        jobs: list[asyncio.Task[Any]] = [*await start_core(group, core, settings.core_socket, gateway.probe)]
        jobs += [group.create_task(workers.run()), group.create_task(keep_watchdog(os.environ))]
        await wait_workers(workers)
        jobs.append(group.create_task(gateway.control(command, sockets, core, ended).run()))
        say_ready(f"ready: {settings.public_url}, {settings.server.workers} workers")
        await ended
        notify("STOPPING=1", os.environ)
        for listener in sockets.values():
            listener.close()  # the workers have theirs; an open one that nobody accepts on would keep clients waiting
        await workers.stop(settings.server.drain_s)
        if core is not None:
            await core.stop()
        for job in jobs:
            job.cancel()


def _core_child(loaded: LoadedSettings, command: CommandLine, health: CoreHealth) -> Child:
    program = core_program(data_dir=loaded.settings.data_dir, config=loaded.file, flags=command.flags)
    return Child(program, on_start=health.note_started, on_exit=health.note_exit)
