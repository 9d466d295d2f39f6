"""Owns a process's side of ``gateway trace``: its socket, and nothing else while nobody listens.

A listener gets events, one JSON object a line. It may say ``{"heads": true}`` for heads, ``{"describe": true}`` to be
told where the hops lead (with the keys of S3, for the socket is for its own user and root only), and
``{"detour": {"core": "127.0.0.1:PORT"}}`` to have a hop led through a proxy of its own on loopback. All of it ends
with the connection, however that ends. A listener that does not read misses events, which it is told; it never slows
the process.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from gateway.trace.events import Address, Event, Hop, Sight

log = logging.getLogger(__name__)

GATEWAY_SOCKET: Final = "trace-"
CORE_SOCKET: Final = "core-trace-"
_LINE_BYTES: Final = 64 * 1024
_BACKLOG_BYTES: Final = 4 * 1024 * 1024  # events that a listener has not read; beyond, it misses some
_PEER: Final = struct.Struct("3i")  # pid, uid, gid


def sockets_in(folder: Path, prefix: str) -> list[Path]:
    """The sockets of all processes of a kind."""
    return sorted(folder.glob(f"{prefix}*.sock"))


class Refused(Exception):
    """What a listener asked for cannot be; the sentence says why."""


class Outlet:
    """``is_on`` is all that a request costs while nobody listens."""

    def __init__(self, folder: Path, prefix: str, hops: Callable[[], Iterable[Hop]]) -> None:
        """``hops`` are looked through whenever the first listener comes or the last one goes."""
        self.is_on = False
        self._path = folder / f"{prefix}{os.getpid()}.sock"
        self._prefix = prefix
        self._hops = hops
        self._listeners: set[_Listener] = set()
        self.sight: Final = Sight(publish=self.publish, wants_heads=self._wants_heads)

    async def run(self) -> None:
        """Serve until cancelled. Without its socket the process works as ever; only trace does not."""
        try:
            server = await asyncio.start_unix_server(self._serve, sock=self._bind(), limit=_LINE_BYTES)
        except OSError as exc:
            log.warning("gateway trace will not work: %s: %s", self._path, exc)
            return
        try:
            # Not serve_forever(): its end waits until every listener has gone.
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            self._path.unlink(missing_ok=True)
            for listener in list(self._listeners):
                listener.close()

    def publish(self, event: Event) -> None:
        """Tell every listener."""
        line = json.dumps({"pid": os.getpid(), **event}, separators=(",", ":")).encode() + b"\n"
        for listener in self._listeners:
            listener.send(line)

    def _wants_heads(self) -> bool:
        # Threads of the store ask, too: of a copy, made at once.
        return any(listener.wants_heads for listener in tuple(self._listeners))

    def _bind(self) -> socket.socket:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_orphans(self._path.parent, self._prefix)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not under its name before it listens, or a worker that starts now would take it for an orphan.
        fresh = self._path.with_name(f".{self._path.name}")
        fresh.unlink(missing_ok=True)
        try:
            listener.bind(os.fspath(fresh))
            fresh.chmod(0o600)
            listener.listen()
            fresh.replace(self._path)
        except BaseException:
            listener.close()
            raise
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener = _Listener(writer)
        if not _may_listen(writer):
            listener.close()
            return
        self._listeners.add(listener)
        self._switch()
        log.info("trace: somebody listens (%d)", len(self._listeners))
        try:
            while line := await reader.readline():
                listener.reply(self._obey(listener, line))
        except (OSError, ValueError):
            pass  # gone, or a line without end
        finally:
            self._listeners.discard(listener)
            self._switch()
            for kind in listener.detours:
                self._detour(kind, None)
            listener.close()
            log.info("trace: a listener left (%d)", len(self._listeners))

    def _obey(self, listener: "_Listener", line: bytes) -> Event:
        try:
            asked: dict[str, Any] = json.loads(line)
            listener.wants_heads = bool(asked.get("heads", listener.wants_heads))
            for kind, address in asked.get("detour", {}).items():
                if address is not None:
                    self._begin_detour(listener, str(kind), str(address))
                elif kind in listener.detours:
                    listener.detours.discard(kind)
                    self._detour(kind, None)
        except (Refused, ValueError, AttributeError) as exc:
            return {"event": "refused", "why": str(exc)}
        hops = list(self._hops())
        ready: Event = {"event": "ready", "pid": os.getpid(), "hops": sorted({hop.kind for hop in hops})}
        if asked.get("describe"):
            ready["described"] = {
                hop.kind: hop.describe() for hop in reversed(hops)
            }  # the first of a kind wins
        return ready

    def _begin_detour(self, listener: "_Listener", kind: str, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not ipaddress.ip_address(host).is_loopback or not port.isdecimal():
            raise Refused(f"{address} is not an address on loopback")
        if any(kind in other.detours for other in self._listeners):
            raise Refused(f"{kind} is being inspected already")
        if not any(hop.kind == kind for hop in self._hops()):
            raise Refused(f"this process has no hop '{kind}'")
        self._detour(kind, (host, int(port)))
        listener.detours.add(kind)
        log.warning("trace: the hop to %s goes through a proxy at %s now", kind, address)

    def _detour(self, kind: str, address: Address | None) -> None:
        for hop in self._hops():
            if hop.kind == kind:
                hop.detour(address)
        if address is None:
            log.warning("trace: the hop to %s is direct again", kind)

    def _switch(self) -> None:
        """On with the first listener, off with the last."""
        is_on = bool(self._listeners)
        if is_on == self.is_on:
            return
        self.is_on = is_on
        self.switched()
        for hop in self._hops():
            hop.watch(self.sight if is_on else None)

    def switched(self) -> None:
        """``is_on`` has changed: for what there is beside hops."""


class _Listener:
    """One connection of ``gateway trace``."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._missed = 0
        self.wants_heads = False
        self.detours: set[str] = set()

    def send(self, line: bytes) -> None:
        """Send, or count what there is no room for."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > _BACKLOG_BYTES:
            self._missed += 1
            return
        if self._missed:
            transport.write(json.dumps({"event": "missed", "count": self._missed}).encode() + b"\n")
            self._missed = 0
        transport.write(line)

    def reply(self, value: Event) -> None:
        """Answer a line of its own."""
        if not self._writer.transport.is_closing():
            self._writer.write(json.dumps(value).encode() + b"\n")

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


def _may_listen(writer: asyncio.StreamWriter) -> bool:
    """The mode of the socket says the same; this holds also when somebody has changed that."""
    known = writer.get_extra_info("socket")
    _, user, _ = _PEER.unpack(known.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return user in {0, os.geteuid()}


def _remove_orphans(folder: Path, prefix: str) -> None:
    """Sockets of processes that were killed."""
    for path in sockets_in(folder, prefix):
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            try:
                probe.connect(os.fspath(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
