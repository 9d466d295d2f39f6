"""Owns the words to systemd: ready, stopping, still alive; and the sockets it opened for us."""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

_FIRST_SOCKET: Final = 3
ACTIVATED_VARIABLE: Final = "SREGISTRY_ACTIVATED"  # in successors, which are not the process LISTEN_PID means
_PATIENCE_S: Final = 1.0  # a supervisor that does not read its words must not hold the event loop


def notify(message: str, environ: Mapping[str, str]) -> None:
    """Send ``READY=1``, ``STOPPING=1``, ``RELOADING=1`` or ``STATUS=…``; nothing happens without systemd."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_PATIENCE_S)
        try:
            sock.sendto(message.encode(), address)
        except OSError:
            return  # a supervisor that does not listen is not a reason to stop


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """How often systemd wants to hear from us: half of its patience. None = it does not."""
    text = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(text) / 2_000_000


async def keep_watchdog(environ: Mapping[str, str]) -> None:
    """Tell systemd that the event loop still turns."""
    every = watchdog_s(environ)
    while every is not None:
        notify("WATCHDOG=1", environ)
        await asyncio.sleep(every)


def is_activated(environ: Mapping[str, str]) -> bool:
    """Whether the listening sockets are systemd's, opened for this process or for one that it takes over from."""
    return ACTIVATED_VARIABLE in environ or (
        environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "").isdecimal()
    )


def activated_sockets(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """Listening sockets of .socket units, by their ``FileDescriptorName``: ``http``, ``https``.

    A unit may have several of a name: the second is ``https-2``.
    """
    if ACTIVATED_VARIABLE in environ or not is_activated(environ):
        return {}
    count = int(environ["LISTEN_FDS"])
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += ["https", "http"][len(names) if names != [""] else 0 :]
    sockets: dict[str, socket.socket] = {}
    for index, name in zip(range(count), (name for name in names if name), strict=False):
        number = sum(known == name or known.startswith(f"{name}-") for known in sockets) + 1
        own = name if number == 1 else f"{name}-{number}"
        sockets[own] = socket.socket(fileno=_FIRST_SOCKET + index)
    return sockets
