"""Owns the child processes: the core, and the workers that share the listening sockets."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.tally import TALLY_VARIABLE, clear_tally, share_tally

log = logging.getLogger(__name__)

BACK_OFF_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
STEADY_S: Final = (
    10.0  # a child that lived this long had a good start: the next failure begins at the first step
)
STOP_S: Final = 25.0  # the core gives its own requests 20
READY_LOOK_S: Final = 0.05

WORKER_VARIABLE: Final = "SREGISTRY_WORKER"
SOCKETS_VARIABLE: Final = "SREGISTRY_SOCKETS"
READY_VARIABLE: Final = "SREGISTRY_READY"
READY_WORD: Final = b"ready"
_MAIN_ONLY: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
    | {READY_VARIABLE}
)


def back_off(failures: int) -> float:
    """Seconds to wait before the restart after so many failures in a row (the first: none)."""
    return BACK_OFF_S[min(max(failures - 1, 0), len(BACK_OFF_S) - 1)]


def environment_of(flags: Mapping[str, Any]) -> dict[str, str]:
    """Command-line settings as environment, so that children see them. ``flags`` as for ``settings_source.load``."""
    return {
        "GATEWAY_" + name.upper().replace(".", "__"): _as_text(value)
        for name, value in flags.items()
        if value is not None
    }


def _as_text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ",".join(str(item) for item in value)
        case _:
            return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A Python module to run: arguments, what is added to the environment, open files it inherits."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str]
    inherited: tuple[int, ...] = ()


def core_program(*, data_dir: Path, config: Path | None, flags: Mapping[str, Any]) -> Program:
    """``registry serve`` as a child, with the gateway's own settings."""
    arguments = ["serve", "--data-dir", str(data_dir)]
    if config is not None:
        arguments += ["--config", str(config)]
    return Program(
        name="core", module="registry_core", arguments=tuple(arguments), environment=environment_of(flags)
    )


def environment_for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours without what is said to the main process alone."""
    return {name: value for name, value in environ.items() if name not in _MAIN_ONLY}


class Child:
    """One program that is kept running until ``stop``. Its output goes where ours goes."""

    def __init__(
        self,
        program: Program,
        *,
        on_start: Callable[[], object] = lambda: None,
        on_exit: Callable[[], object] = lambda: None,
        stop_s: float = STOP_S,
    ) -> None:
        self._program = program
        self._on_start = on_start
        self._on_exit = on_exit
        self._stop_s = stop_s
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._turn = asyncio.Lock()  # one replacement at a time, and none of a core that is being held

    def take(self, program: Program) -> None:
        """What is started from now on."""
        self._program = program

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Start it, and start it again whenever it ends. Cancelling stops it; so does ``stop``."""
        failures = 0
        try:
            while not self._stopping.is_set():
                await self._may_run.wait()
                began = time.monotonic()
                await self._live_once()
                failures = 1 if time.monotonic() - began >= STEADY_S else failures + 1
                if not self._is_meant_to_end():
                    await self._pause(back_off(failures))
        finally:
            await asyncio.shield(self._end())

    async def restart(self) -> None:
        """End it in order; ``run`` starts the next one."""
        await self.hold()
        self.release()

    async def hold(self) -> None:
        """End it in order, and do not start it again before ``release``."""
        async with self._turn:
            self._may_run.clear()
            await self._end()

    def release(self) -> None:
        """Start it again."""
        self._may_run.set()

    def _is_meant_to_end(self) -> bool:
        return self._stopping.is_set() or not self._may_run.is_set()

    async def stop(self, within_s: float | None = None) -> None:
        """End it for good: SIGTERM, and SIGKILL when it takes longer than ``within_s``."""
        self._stopping.set()
        await self._end(within_s)
        await self.settled()
        self._may_run.set()

    async def settled(self) -> None:
        """Returns when no replacement is on its way."""
        async with self._turn:
            return

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on."""
        if self._process is not None and self._process.returncode is None:
            _signal(self._process, number)

    async def replace(self, is_ready: Callable[[], Awaitable[bool]], *, within_s: float) -> bool:
        """Start the next one beside this one, and end this one once the next is ready: nobody waits.

        False when the next one was not ready in time; it is ended, and this one goes on. Where none runs, the next is
        on its way already, or is to be held down: there is nothing to replace.
        """
        async with self._turn:
            if self._process is None or self._is_meant_to_end():
                return True
            return await self._replace(is_ready, within_s)

    async def _replace(self, is_ready: Callable[[], Awaitable[bool]], within_s: float) -> bool:
        fresh = await self._spawn()
        if fresh is None or not await self._becomes_ready(fresh, is_ready, within_s):
            await self._end_of(fresh)
            return False
        old, self._process = self._process, fresh
        await self._end_of(old)
        return True

    async def _becomes_ready(
        self, process: asyncio.subprocess.Process, is_ready: Callable[[], Awaitable[bool]], within_s: float
    ) -> bool:
        until = time.monotonic() + within_s
        while process.returncode is None and time.monotonic() < until and not self._stopping.is_set():
            if await is_ready():
                return True
            await asyncio.sleep(READY_LOOK_S)
        return False

    async def _live_once(self) -> None:
        self._process = await self._spawn()
        if self._process is None:
            return
        self._on_start()
        process = None
        while process is not self._process and self._process is not None:  # it may be replaced meanwhile
            process = self._process
            code = await process.wait()
        if not self._stopping.is_set():
            self._on_exit()
        if not self._is_meant_to_end() and process is not None:
            log.warning("%s (pid %d) ended: %s", self._program.name, process.pid, describe_exit(code))
        self._process = None

    async def _spawn(self) -> asyncio.subprocess.Process | None:
        program = self._program
        wrapped = ("-m", "gateway._child", str(os.getpid()), program.module, *program.arguments)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *wrapped,
                stdin=asyncio.subprocess.DEVNULL,
                env={**environment_for_children(os.environ), **program.environment},
                pass_fds=program.inherited,
            )
        except OSError as exc:
            log.error("%s cannot be started: %s", program.name, exc)  # noqa: TRY400 - the cause is no bug of ours
            return None
        log.info("%s started (pid %d)", program.name, process.pid)
        return process

    async def _end(self, within_s: float | None = None) -> None:
        await self._end_of(self._process, within_s)

    async def _end_of(
        self, process: asyncio.subprocess.Process | None, within_s: float | None = None
    ) -> None:
        if process is None or process.returncode is not None:
            return
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_s if within_s is None else within_s):
                await process.wait()
        except TimeoutError:
            log.warning("%s did not stop in time: killed", self._program.name)
            _signal(process, signal.SIGKILL)
            await process.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def describe_exit(code: int) -> str:
    """An exit code as a person says it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Workers:
    """``--workers N``: N gateway processes on the same listening sockets, each kept running."""

    def __init__(
        self,
        count: int,
        *,
        arguments: Sequence[str],
        sockets: Mapping[str, socket.socket],
        module: str = "gateway",
    ) -> None:
        """``arguments``: those of ``gateway`` itself; ``sockets``: listener name → open listening socket."""
        named = ",".join(f"{name}={sock.fileno()}" for name, sock in sockets.items())
        self._ready, told = (
            os.pipe()
        )  # each worker writes a word when it serves; ours for life, as they may return
        tally = share_tally(count)
        self._count = count
        self._programs = [
            Program(
                name=f"worker {number}",
                module=module,
                arguments=tuple(arguments),
                environment={
                    WORKER_VARIABLE: str(number),
                    SOCKETS_VARIABLE: named,
                    READY_VARIABLE: str(told),
                    TALLY_VARIABLE: str(tally),
                },
                inherited=(*(sock.fileno() for sock in sockets.values()), told, tally),
            )
            for number in range(1, count + 1)
        ]
        self._children = [
            Child(program, on_exit=partial(clear_tally, tally, worker=number))
            for number, program in enumerate(self._programs, 1)
        ]

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that run now."""
        return tuple(child.pid for child in self._children if child.pid is not None)

    async def run(self) -> None:
        """Keep all of them running."""
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(child.run())

    async def wait_ready(self, within_s: float) -> bool:
        """Wait until every worker serves, at most so long."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        missing = self._count * len(READY_WORD)
        loop.add_reader(self._ready, readable.set)
        try:
            async with asyncio.timeout(within_s):
                while missing > 0:
                    await readable.wait()
                    readable.clear()
                    missing -= len(os.read(self._ready, missing))
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._ready)
        return True

    def fix(self, settings: Mapping[str, Any]) -> None:
        """Settings that a worker which is started again must not read anew: the others do not have them yet."""
        for child, program in zip(self._children, self._programs, strict=True):
            child.take(replace(program, environment={**environment_of(settings), **program.environment}))

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on to all (SIGHUP: reload)."""
        for child in self._children:
            child.send(number)

    async def stop(self, within_s: float) -> None:
        """Let all drain, at most so long."""
        await asyncio.gather(*(child.stop(within_s) for child in self._children))


def inherited_sockets(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """In a worker: the listening sockets that were handed over, by listener name. Empty in the main process."""
    sockets: dict[str, socket.socket] = {}
    for entry in environ.get(SOCKETS_VARIABLE, "").split(","):
        name, _, number = entry.partition("=")
        if number.isdecimal():
            sockets[name] = socket.socket(fileno=int(number))
    return sockets


def worker_number(environ: Mapping[str, str]) -> int | None:
    """In a worker: which one, from 1. None in the main process."""
    text = environ.get(WORKER_VARIABLE, "")
    return int(text) if text.isdecimal() else None
