"""Owns the connections of ``gateway trace`` to the running gateway: one to each process, also to later ones."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.trace.feed import SOCKET_PATTERN
from gateway.trace.observers import Event

_LINE_BYTES: Final = 16 * 1024 * 1024
_LOOK_EVERY_S: Final = 0.5
_GONE_AFTER: Final = 6  # looks without a process: time enough for a restart's or a worker's new socket


class NobodyThere(Exception):
    """No gateway runs on this data folder, or it has ended; the sentence says which."""


class DetourRefused(Exception):
    """The gateway does not lead a hop through us; the sentence says why."""


class Listening:
    """Events of all processes of one gateway. ``detours`` maps hops to the addresses they are to be led through."""

    def __init__(
        self, folder: Path, take: Callable[[Event], None], *, heads: bool, detours: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._take = take
        self._hello = {"heads": heads, "detour": dict(detours)}
        self._detoured = bool(detours)
        self._writers: dict[Path, asyncio.StreamWriter] = {}
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Raises: NobodyThere, DetourRefused."""
        async with asyncio.TaskGroup() as group:
            looks_without = 0
            while True:
                found = await asyncio.to_thread(self._new_sockets)
                for path in found:
                    await self._join(path, group)
                looks_without = 0 if self._writers else looks_without + 1
                if not self._writers and not self.ready.is_set():
                    raise NobodyThere(f"no gateway runs here: nobody listens in {self._folder}")
                if looks_without >= _GONE_AFTER:
                    raise NobodyThere("the gateway has ended")
                self.ready.set()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def end_detours(self) -> None:
        """Have every hop go its own way again; events still come."""
        if not self._detoured:
            return
        direct = json.dumps({"detour": dict.fromkeys(self._hello["detour"])}).encode() + b"\n"  # type: ignore[call-overload]
        for writer in self._writers.values():
            with suppress(OSError):
                writer.write(direct)
                await writer.drain()

    def _new_sockets(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(SOCKET_PATTERN) if path not in self._writers)

    async def _join(self, path: Path, group: asyncio.TaskGroup) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(os.fspath(path), limit=_LINE_BYTES)
        except PermissionError as exc:
            raise NobodyThere(f"{path}: only root and the gateway's own user may trace") from exc
        except OSError:
            return  # of a process that was killed
        self._writers[path] = writer
        try:
            writer.write(json.dumps(self._hello).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
            while answer.get("event") not in {"ready", "refused", None}:  # events may come before it
                self._take(answer)
                answer = json.loads(await reader.readline() or b"{}")
        except (OSError, ValueError):
            answer = {}
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
