"""Owns the change of the gateway's own process under open ports: a successor is started, proven, and given way to."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from gateway.control import ControlFailed, Session
from gateway.supervise import (
    READY_VARIABLE,
    READY_WORD,
    SOCKETS_VARIABLE,
    WORKER_VARIABLE,
    Child,
    describe_exit,
    environment_for_children,
)
from gateway.systemd import ACTIVATED_VARIABLE, is_activated, notify

log = logging.getLogger(__name__)

READY_S: Final = 60.0


class HandoverFailed(Exception):
    """The successor is not fit; the old process goes on as if nothing had been."""


async def start_successor(
    *,
    arguments: Sequence[str],
    sockets: Mapping[str, socket.socket],
    module: str = "gateway",
    within_s: float = READY_S,
    is_wanted: Callable[[], bool] = lambda: True,
) -> int:
    """Start ``gateway`` again on the same listening sockets and wait until it serves; its process id.

    From then on both accept. The caller stops accepting, drains and ends. Whoever says meanwhile that the gateway is
    to end (``is_wanted``, or this is cancelled) means the new process, too, which he cannot know of.
    Raises: HandoverFailed.
    """
    ours, theirs = os.pipe()
    passed = tuple(sock.fileno() for sock in sockets.values())
    named = ",".join(f"{name}={sock.fileno()}" for name, sock in sockets.items())
    environment = environment_for_children(os.environ) | {
        SOCKETS_VARIABLE: named,
        READY_VARIABLE: str(theirs),
    }
    environment.pop(WORKER_VARIABLE, None)
    if is_activated(os.environ):
        environment[ACTIVATED_VARIABLE] = "1"
    # It becomes systemd's main process. (WATCHDOG_PID is ours and stays here.)
    environment |= {
        name: os.environ[name] for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if name in os.environ
    }
    try:
        # Not asyncio's subprocess: that kills its child when the event loop ends, and this one is to stay.
        successor = subprocess.Popen(  # noqa: S603, ASYNC220 - our own interpreter; a millisecond, once
            (sys.executable, "-m", module, *arguments),
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=(*passed, theirs),
            start_new_session=True,
        )
    except OSError as exc:
        os.close(ours)
        raise HandoverFailed(f"the new process cannot be started: {exc}") from exc
    finally:
        os.close(theirs)
    log.info("handover: new process started (pid %d)", successor.pid)
    try:
        is_ready = await _reads_ready(ours, within_s)
    except BaseException:
        successor.terminate()
        raise
    if is_ready and is_wanted():
        _let_go(successor)
        return successor.pid
    await asyncio.to_thread(_end, successor)
    if is_ready:
        raise HandoverFailed("this process was told to end meanwhile, and the new one with it")
    raise HandoverFailed(
        f"the new process did not get ready ({describe_exit(successor.returncode)}). See the log"
    )


def tell_ready(environ: Mapping[str, str]) -> None:
    """In a successor or a worker, when it serves: tell who waits for it. In any other process nothing happens."""
    number = environ.get(READY_VARIABLE, "")
    if number.isdecimal():
        with contextlib.suppress(OSError):  # told already, or nobody waits any more
            os.write(int(number), READY_WORD)
            os.close(int(number))


def is_successor(environ: Mapping[str, str]) -> bool:
    """Whether this process takes over from another."""
    return environ.get(READY_VARIABLE, "").isdecimal()


class Handover:
    """The upgrade of this process: asked for by the ``gateway`` command, or by SIGUSR2."""

    def __init__(
        self,
        *,
        arguments: Sequence[str],
        sockets: Mapping[str, socket.socket],
        core: Child | None,
        give_way: Callable[[], object],
        is_ending: Callable[[], bool] = lambda: False,
        module: str = "gateway",
    ) -> None:
        """``give_way`` lets this process stop accepting, drain and end; ``is_ending``: it does so already."""
        self._arguments = arguments
        self._sockets = sockets
        self._core = core
        self._give_way = give_way
        self._is_ending = is_ending
        self._module = module
        self._turn = asyncio.Lock()
        self._by_signal: set[asyncio.Task[None]] = set()

    async def command(self, session: Session) -> None:
        """The command ``upgrade``. Raises: ControlFailed."""
        await self.upgrade(session.say)

    def signalled(self) -> None:
        """The same by SIGUSR2: whoever sent it reads the log."""
        task = asyncio.get_running_loop().create_task(self._upgrade_by_signal())
        self._by_signal.add(task)
        task.add_done_callback(self._by_signal.discard)

    async def upgrade(self, say: Callable[[str], Awaitable[object]]) -> None:
        """Start a successor, prove it, give way to it. Raises: ControlFailed, and then this process goes on."""
        if self._is_ending():
            raise ControlFailed("this process is ending; it hands nothing over any more")
        if self._turn.locked():
            raise ControlFailed("a handover is already on its way")
        async with self._turn:
            await say("starting a new process on the same ports")
            if self._core is not None:
                await self._core.settled()  # two new cores at once would take the socket from each other
            try:
                pid = await start_successor(
                    arguments=self._arguments,
                    sockets=self._sockets,
                    module=self._module,
                    is_wanted=lambda: not self._is_ending(),
                )
            except HandoverFailed as exc:
                raise ControlFailed(str(exc)) from exc
            notify(f"MAINPID={pid}", os.environ)
            await say(f"the new process serves (pid {pid})")
            if self._core is not None:
                # Its core has taken the socket; ours must not come back and take it again.
                await self._core.stop()
            self._give_way()

    async def _upgrade_by_signal(self) -> None:
        try:
            await self.upgrade(_log)
        except ControlFailed as exc:
            log.error("upgrade: %s; this process goes on", exc)  # noqa: TRY400 - it says all there is
        except Exception:
            log.exception("bug in an upgrade; this process goes on")


async def _log(text: str) -> None:
    log.info("upgrade: %s", text)


async def _reads_ready(file: int, within_s: float) -> bool:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(file, readable.set)
    try:
        async with asyncio.timeout(within_s):
            await readable.wait()
        return os.read(file, len(READY_WORD)) == READY_WORD  # an end of file is a process that ended
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(file)
        os.close(file)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _let_go(process: subprocess.Popen[bytes]) -> None:
    # Its end is nobody's business here any more: this process ends first, and init takes it over.
    process.returncode = 0
