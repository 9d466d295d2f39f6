"""Owns what the running gateway does with its core on command: replace it without a gap, or hold it down."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from gateway.control import Action, ControlFailed, Session
from gateway.core_health import Probe
from gateway.supervise import Child

log = logging.getLogger(__name__)

READY_S: Final = 60.0  # a large database takes its time to migrate
LOOK_EVERY_S: Final = 1.0
HELD: Final = "the core is stopped"


async def probes_well(probe: Probe) -> bool:
    """One probe, where no answer is an answer too."""
    try:
        async with asyncio.timeout(2.0):
            return await probe()
    except (OSError, EOFError, ValueError, TimeoutError):
        return False


async def wait_well(probe: Probe, *, within_s: float) -> bool:
    """Wait until the core is well."""
    return await wait_until(lambda: probes_well(probe), within_s=within_s)


async def wait_until(is_true: Callable[[], Awaitable[bool]], *, within_s: float) -> bool:
    """Ask until it is, at most so long."""
    until = time.monotonic() + within_s
    while not await is_true():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.1)
    return True


def core_actions(child: Child, core_socket: Path, probe: Probe) -> Mapping[str, Action]:
    """The commands ``core-restart`` and ``core-hold``."""

    async def restart(session: Session) -> None:
        await session.say("starting a new core beside the old one")
        if not await child.replace(new_core_ready(core_socket, probe), within_s=READY_S):
            raise ControlFailed("the new core did not get well; the old one goes on. See the log")

    async def hold(session: Session) -> None:
        log.warning("the core is held down for an upgrade")
        await child.hold()
        try:
            await session.say(HELD)
            await session.hung_up()
        finally:
            child.release()
            log.info("the core may run again")

    return {"core-restart": restart, "core-hold": hold}


def new_core_ready(path: Path, probe: Probe) -> Callable[[], Awaitable[bool]]:
    """Tells, when asked, whether another socket has taken the name since now, and answers well."""
    before = _inode(path)

    async def is_ready() -> bool:
        return _inode(path) not in (0, before) and await probes_well(probe)

    return is_ready


async def keep_core_name(
    child: Child, path: Path, probe: Probe, *, look_every_s: float = LOOK_EVERY_S
) -> None:
    """Restart the core when somebody took its socket's name and answers no more.

    A successor's core takes the name before the successor is proven. If that one fails and ends, our core is alive
    behind a socket that nobody can find.
    """
    pid: int | None = None
    ours = 0
    while True:
        await asyncio.sleep(look_every_s)
        if child.pid != pid:
            pid, ours = child.pid, 0
        if pid is None:
            continue
        inode = _inode(path)
        if ours == 0 and await probes_well(probe):
            ours = inode
        elif ours not in (0, inode) and not await probes_well(probe):
            await child.settled()
            if child.pid != pid:
                continue  # it was being replaced, and the next one was about to answer
            log.warning("another process took the core's socket and is gone: the core is started again")
            await child.restart()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
