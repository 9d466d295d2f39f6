"""Owns the turns in the life of a process: its listeners, its core, its word that it is ready, its end."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.control import Action, Control
from gateway.core_control import READY_S, core_actions, keep_core_name, new_core_ready, wait_until
from gateway.core_health import Probe
from gateway.core_upgrade import control_socket
from gateway.early import came_early
from gateway.handover import Handover, is_successor, tell_ready
from gateway.init_process import tell_init
from gateway.settings import Settings
from gateway.store.running import StoreNote
from gateway.supervise import Child, Workers
from gateway.systemd import notify

type Ended = asyncio.Future[None]  # done when the process is to drain and go

log = logging.getLogger("gateway")

AGAIN_S: Final = 1.0


async def start_core(
    group: asyncio.TaskGroup, core: Child | None, core_socket: Path, probe: Probe
) -> list[asyncio.Task[None]]:
    """Start the core. Who takes over from another process goes on only when its own core is proven.

    Raises: SystemExit in a successor whose core does not get well: the old process sees that, and goes on.
    """
    if core is None:
        return []
    is_ready = new_core_ready(core_socket, probe)
    job = group.create_task(core.run())
    if is_successor(os.environ) and not await wait_until(is_ready, within_s=READY_S):
        raise SystemExit(1)
    return [job, group.create_task(keep_core_name(core, core_socket, probe))]


async def persistent(name: str, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``job`` until it returns; when it fails, again. What goes on beside the requests must not end them:
    the disk may refuse for a moment, or clients hold every file descriptor.
    """
    while True:
        try:
            return await job()
        except OSError as exc:
            log.warning("%s: %s; again in %g s", name, exc, AGAIN_S)
        except Exception:
            log.exception("bug in %s; again in %g s", name, AGAIN_S)
        await asyncio.sleep(AGAIN_S)


async def wait_workers(workers: Workers) -> None:
    """Wait until all workers serve. Raises: SystemExit in a successor whose workers do not."""
    if not await workers.wait_ready(READY_S) and is_successor(os.environ):
        raise SystemExit(1)


def say_ready(text: str) -> None:
    """Tell the log, systemd, and the process that is waited for by, if there is one."""
    log.info("%s", text)
    notify("READY=1", os.environ)
    tell_init(os.environ)
    tell_ready(os.environ)


def make_control(
    settings: Settings,
    *,
    arguments: Sequence[str],
    sockets: Mapping[str, socket.socket],
    core: Child | None,
    probe: Probe,
    ended: Ended,
) -> Control:
    """What the ``gateway`` command may ask of this process; SIGUSR2 asks for an upgrade, too.

    ``ended`` is what makes it drain and go. From here on the commands come to this process, so it is made when
    everything else is ready.
    """

    handover = Handover(
        arguments=arguments,
        sockets=sockets,
        core=core,
        give_way=partial(_end, ended),
        is_ending=ended.done,
    )
    if came_early(signal.SIGUSR2):
        handover.signalled()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, handover.signalled)
    actions: dict[str, Action] = {"upgrade": handover.command}
    if core is not None:
        actions |= core_actions(core, settings.core_socket, probe)
    control = Control(control_socket(settings), actions)
    control.bind()
    try:
        StoreNote(settings)  # its open file keeps it until this process ends
    except OSError as exc:
        log.warning("commands are not told which store is in use: %s", exc)
    return control


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop to run on."""
    try:
        import uvloop  # noqa: PLC0415 - optional: plain asyncio works too, at 1.6 times the cost per request
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def ended_by_signal(*, on_hangup: Callable[[], None]) -> Ended:
    """Done at SIGTERM or SIGINT; SIGHUP calls ``on_hangup``."""
    loop = asyncio.get_running_loop()
    ended: Ended = loop.create_future()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, ended)
    if came_early(signal.SIGHUP):
        loop.call_soon(on_hangup)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    return ended


def _end(ended: Ended) -> None:
    if not ended.done():
        ended.set_result(None)
