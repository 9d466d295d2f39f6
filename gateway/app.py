"""Owns the composition: settings in, a running gateway out. Alone knows all other modules.

One process serves; with ``--workers N`` the main process only holds the listeners, the core and N such processes.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.contract import load_secret
from gateway.control import Control
from gateway.core_api import CoreApi
from gateway.core_health import CoreHealth, probe_of
from gateway.encryption import certificate_jobs, open_keeper, open_tls, renew_tls
from gateway.forward.circuits import Circuits, core_upstream
from gateway.forward.pool import UpstreamPool
from gateway.gauges import Gauges
from gateway.handover import is_successor
from gateway.heap import give_back_large_blocks
from gateway.http.exchange import ClientExchange
from gateway.http.fields import Networks
from gateway.lifecycle import (
    Ended,
    ended_by_signal,
    loop_factory,
    make_control,
    persistent,
    say_ready,
    start_core,
    wait_workers,
)
from gateway.listeners import open_listeners
from gateway.log import log_access, set_up_logging
from gateway.maintenance import MaintenanceSwitch
from gateway.metrics import Metrics
from gateway.net.blocks import BlockPool
from gateway.net.connection import ConnectionContext
from gateway.net.server import Server, drain, keep_deadlines, most_connections, raise_file_limit
from gateway.outbox import Outbox
from gateway.reload import Reload, program_of
from gateway.resumable.resource import UploadRecords
from gateway.settings import Settings
from gateway.settings_source import LoadedSettings
from gateway.spool import Spool
from gateway.static_files import StaticFiles
from gateway.store.asking import CarryingThreads
from gateway.store.opening import open_store, renew_keys
from gateway.supervise import Child, Workers, worker_number
from gateway.sweeping import SWEEP_EVERY_S, sweep
from gateway.systemd import keep_watchdog, notify
from gateway.tally import Kind, open_tally
from gateway.trace.events import Hop
from gateway.trace.feed import TraceFeed
from gateway.trace.hops import hops_of
from gateway.upload.parts import PartJournal
from gateway.upload.progress import ProgressBoard
from gateway.upload.route_stores import renew_route_keys, resize_buffers
from gateway.upload.threads import UploadThreads
from gateway.wiring import Lasting, Place, Wiring

log = logging.getLogger("gateway")

IO_THREADS: Final = 64
OPERATIONS_ROUTE: Final = "operations"
COMMIT_PATIENCE_S: Final = 3.0


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
        self.spool: Spool | None = None
        self._take_spool()
        self.core = CoreApi(
            self.upstreams,
            self.secret,
            self.health,
            settings.core,
            upstream=self.core_circuit,
            spool=self.spool,
        )
        self.outbox = Outbox(
            settings.data_dir / "outbox",
            self.store,
            self.core,
            self.health,
            durable=settings.storage.disk.fsync,
            patience_s=COMMIT_PATIENCE_S,
        )
        self.threads = UploadThreads.start()
        is_shared = settings.server.workers > 1
        self.metrics = Metrics(settings.data_dir, self.health, is_shared=is_shared)
        self.board = ProgressBoard(settings.data_dir / "run" / "progress" if is_shared else None)
        self.journal = PartJournal(settings.data_dir / "parts")
        self.uploads = UploadRecords(settings.data_dir / "resumable", durable=settings.storage.disk.fsync)
        self.tls = open_tls(settings)
        self.keeper = open_keeper(settings, self.tls)
        self.blocks = BlockPool(settings.block_bytes)
        # Before there are listeners: the sweep at the start, and the holder of several workers, know its stores.
        self._lasting = self._what_lasts()
        self.wiring = Wiring(self._lasting, settings)
        self.places: list[Place] = []
        self.wiring.replace_circuits(None)
        self._leaving: set[asyncio.Task[None]] = set()
        self.contexts: list[ConnectionContext] = []
        self.servers: list[Server] = []
        self.trace = TraceFeed(settings.data_dir / "run", self.contexts, self._hops)

    def _what_lasts(self) -> Lasting:
        return Lasting(
            store=self.store,
            secret=self.secret,
            health=self.health,
            upstreams=self.upstreams,
            core_circuit=self.core_circuit,
            core=self.core,
            outbox=self.outbox,
            threads=self.threads,
            blocks=self.blocks,
            board=self.board,
            tally=self.tally,
            journal=self.journal,
            uploads=self.uploads,
            switch=self.switch,
            circuits=self.circuits,
            static=StaticFiles(),
            render_metrics=self.metrics.render,
        )

    def _hops(self) -> Iterator[Hop]:
        stores = (self.store, *(store for _, store in self.wiring.route_stores))
        backends = [lease.backend for lease in self.wiring.leases]
        return hops_of(self.upstreams, backends, stores, self.settings)

    async def listen(self, sockets: Mapping[str, socket.socket]) -> None:
        """Accept on the given listeners (``http``, ``https``)."""
        settings = self.settings
        balancers = Networks(nets) if (nets := settings.server.proxy_protocol) else None
        for name, listener in sockets.items():
            is_tls = name.startswith("https")
            place = Place(
                is_tls=is_tls, has_twin="https" in sockets, certificate=self.tls if is_tls else None
            )
            context = ConnectionContext(
                handler=self.wiring.front(place).handle,
                find_peer=self.wiring.find_peer,
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
            # Known before the loop turns: a SIGHUP may come while it starts.
            self.places.append(place)
            self.contexts.append(context)
            self.servers.append(server)
            await server.start()

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
        jobs |= certificate_jobs(lambda: self.settings, self.tls, self.keeper)
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
            host=lambda: urlsplit(self.settings.public_url).hostname or "",
            is_shared=self.settings.server.workers > 1,
        )

    async def _sweep_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Remove what dead uploads left behind."""
        await asyncio.to_thread(
            sweep,
            store=self.store,
            route_stores=self.wiring.route_stores,
            outbox=self.outbox,
            journal=self.journal,
            uploads=self.uploads,
        )

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

    def take(self, settings: Settings) -> None:
        """Put other settings in force for what comes now (SIGHUP).

        Raises: SettingsError, and then everything is as it was.
        """
        wiring = Wiring(self._lasting, settings, self.wiring)
        fronts = [wiring.front(place) for place in self.places]
        if self.keeper is not None:
            self.keeper.follow(settings)
        # From here on nothing fails.
        before, self.wiring, self.settings = self.wiring, wiring, settings
        set_up_logging(settings.log)
        core = settings.core
        self.health.hold(hold_s=core.hold_s, start_hold_s=core.start_hold_s)
        self.upstreams.resize(connections=core.connections, connect_s=core.connect_s)
        self.core_circuit.circuit.policy = core_upstream(core).circuit.policy
        self._take_spool()
        self.core.take(core, self.spool)
        self.blocks.resize(settings.block_bytes)
        stores = (self.store, *(store for _, store in wiring.route_stores))
        resize_buffers(stores, settings.part_bytes)
        renew_keys(self.store, settings)
        renew_route_keys(wiring.route_stores, settings)
        for front, context in zip(fronts, self.contexts, strict=True):
            context.handler, context.find_peer = front.handle, wiring.find_peer
            context.limits = settings.limits
        for lease in wiring.replace_circuits(before):
            task = asyncio.get_running_loop().create_task(lease.close_when_idle())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        if self.trace.is_on:
            for hop in self._hops():
                hop.watch(self.trace.sight)

    def _take_spool(self) -> None:
        """Who is known to the spool stays known while it is on."""
        if not self.settings.maintenance.spool:
            self.spool = None
        elif self.spool is None:
            self.spool = Spool(self.settings, self.secret, self.switch)
        else:
            self.spool.take(self.settings)

    def renew_certificate(self) -> None:
        """Take up what is there now, as the watch does by itself a little later."""
        if problem := renew_tls(self.settings, self.tls):
            log.error("the certificate stays as it is: %s", problem)

    async def stop(self) -> None:
        """Let running requests finish, then end."""
        left = await drain(self.servers, deadline_s=self.settings.server.drain_s)
        if left:
            log.warning("%d connections were cut at the end of the drain", left)
        await self.outbox.aclose()
        await self.upstreams.aclose()
        for lease in self.wiring.leases:
            await lease.backend.aclose()
        for task in self._leaving:
            task.cancel()
        self.threads.shutdown()


def serve(loaded: LoadedSettings, command: CommandLine) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises: SettingsError before anything is served."""
    settings = loaded.settings
    set_up_logging(settings.log)
    raise_file_limit()
    give_back_large_blocks()
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
    asyncio.get_running_loop().set_default_executor(CarryingThreads(IO_THREADS, thread_name_prefix="io"))
    gateway = Gateway(settings, owns_core=not settings.core.url)
    if not is_worker:
        await gateway.sweep()
    core = None if settings.core.url or is_worker else _core_child(loaded, command, gateway.health)
    ended = ended_by_signal(on_hangup=Reload(loaded, command.flags, gateway, core))
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
    if not is_successor(os.environ):  # the process before this one still counts
        gateway.metrics.clear_others()
    await gateway.sweep()
    workers = Workers(settings.server.workers, arguments=command.arguments, sockets=sockets)
    core = None if settings.core.url else _core_child(loaded, command, gateway.health)
    ended = ended_by_signal(on_hangup=Reload(loaded, command.flags, gateway, core, workers))
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
        await workers.stop(gateway.settings.server.drain_s)  # as it is after the latest reload
        if core is not None:
            await core.stop()
        for job in jobs:
            job.cancel()


def _core_child(loaded: LoadedSettings, command: CommandLine, health: CoreHealth) -> Child:
    program = program_of(loaded, command.flags)
    return Child(program, on_start=health.note_started, on_exit=health.note_exit)
