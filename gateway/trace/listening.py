"""Owns the connections of ``gateway trace`` to the running processes: one to each, also to later ones.

To the gateway's, and to a core that tells of its own exchanges with S3.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.trace.events import Event
from gateway.trace.outlet import CORE_SOCKET, GATEWAY_SOCKET, sockets_in

_LINE_BYTES: Final = 16 * 1024 * 1024
_LOOK_EVERY_S: Final = 0.5
_GONE_AFTER: Final = 6  # looks without a process: time enough for a restart's or a worker's new socket
_REPLIES: Final = frozenset(("ready", "refused", None))

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NobodyThere(Exception):
    """No gateway runs on this data folder, or it has ended; the sentence says which."""


class DetourRefused(Exception):
    """The gateway does not lead a hop through us; the sentence says why."""


async def ask_hops(folder: Path) -> dict[str, dict[str, Any]]:
    """Where the running gateway's hops lead, with what it knows of S3. Raises: NobodyThere."""
    for path in sockets_in(folder, GATEWAY_SOCKET):
        streams = await _open(path)
        if streams is None:
            continue
        answer = await _ask(streams, {"describe": True}, lambda _: None)
        streams[1].close()
        if answer.get("event") == "ready":
            described: dict[str, dict[str, Any]] | None = answer.get("described")
            if described is None:
                raise NobodyThere("the gateway that runs is older than this command: upgrade or restart it")
            return described
    raise _nobody(folder)


class Listening:
    """Events of all processes of one gateway. ``detours`` maps hops to the addresses they are to be led through."""

    def __init__(
        self, folder: Path, take: Callable[[Event], None], *, heads: bool, detours: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._take = take
        self._hello = {"heads": heads}
        self._detours = dict(detours)
        self._writers: dict[Path, asyncio.StreamWriter] = {}
        self._closed: set[Path] = set()  # cores of another user
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Raises: NobodyThere, DetourRefused."""
        async with asyncio.TaskGroup() as group:
            looks_without = 0
            while True:
                for path in await asyncio.to_thread(self._new_sockets):
                    await self._join(path, group)
                is_served = any(path.name.startswith(GATEWAY_SOCKET) for path in self._writers)
                looks_without = 0 if is_served else looks_without + 1
                if not is_served and not self.ready.is_set():
                    raise _nobody(self._folder)
                if looks_without >= _GONE_AFTER:
                    raise NobodyThere("the gateway has ended")
                self.ready.set()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def end_detours(self) -> None:
        """Have every hop go its own way again; events still come."""
        if not self._detours:
            return
        direct = json.dumps({"detour": dict.fromkeys(self._detours)}).encode() + b"\n"
        for writer in self._writers.values():
            with suppress(OSError):
                writer.write(direct)
                await writer.drain()

    def _new_sockets(self) -> list[Path]:
        found = (*sockets_in(self._folder, GATEWAY_SOCKET), *sockets_in(self._folder, CORE_SOCKET))
        return [path for path in found if path not in self._writers and path not in self._closed]

    async def _join(self, path: Path, group: asyncio.TaskGroup) -> None:
        try:
            streams = await _open(path)
        except NobodyThere as exc:
            if path.name.startswith(GATEWAY_SOCKET):
                raise
            self._closed.add(path)
            self._take({"event": "unheard", "why": str(exc)})
            return
        if streams is None:
            return
        reader, writer = streams
        self._writers[path] = writer
        answer = await _ask(streams, self._hello, self._take)
        # Of what is to be led through us, each process has its own.
        detours = {kind: self._detours[kind] for kind in answer.get("hops", ()) if kind in self._detours}
        if detours:
            answer = await _ask(streams, {"detour": detours}, self._take)
        if answer.get("event") == "refused":
            writer.close()
            raise DetourRefused(str(answer.get("why", "")))
        group.create_task(self._read(path, reader, writer))

    async def _read(self, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                event: dict[str, Any] = json.loads(line)
                self._take(event)
        except (OSError, ValueError):
            pass  # its process ended in the middle of a line
        finally:
            del self._writers[path]
            writer.close()


def _nobody(folder: Path) -> NobodyThere:
    return NobodyThere(f"no gateway runs here: nobody listens in {folder}")


async def _open(path: Path) -> Streams | None:
    """None: of a process that was killed. Raises: NobodyThere."""
    try:
        return await asyncio.open_unix_connection(os.fspath(path), limit=_LINE_BYTES)
    except PermissionError as exc:
        raise NobodyThere(f"{path}: only root and its process's own user may trace") from exc
    except OSError:
        return None


async def _ask(streams: Streams, wish: Event, take: Callable[[Event], None]) -> Event:
    """The reply to one line; {} when the process has ended. Events may come before it."""
    reader, writer = streams
    try:
        writer.write(json.dumps(wish).encode() + b"\n")
        while True:
            answer: Event = json.loads(await reader.readline() or b"{}")
            if answer.get("event") in _REPLIES:
                return answer
            take(answer)
    except (OSError, ValueError):
        return {}
