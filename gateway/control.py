"""Owns the socket by which the ``gateway`` command speaks to the running gateway: one line there, lines back.

``DATA_DIR/run/control.sock``, 0600: who may open it is the administrator. Lines are JSON objects: ``{"command": …}``,
then any number of ``{"said": …}``, then ``{"done": true}`` or ``{"failed": …}``.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

_ANSWER_S: Final = 900.0  # a handover waits for a new process, a replacement for a new core


class ControlFailed(Exception):
    """The command could not be carried out; the sentence says why."""


class Session:
    """One command on its way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, text: str) -> None:
        """Tell how far it is. A client that has gone is not an error: the command goes on."""
        await self.send({"said": text})

    async def send(self, value: Mapping[str, object]) -> None:
        """One line."""
        with contextlib.suppress(OSError):
            self._writer.write(json.dumps(value).encode() + b"\n")
            await self._writer.drain()

    async def hung_up(self) -> None:
        """Returns when the client ends the connection, or its life."""
        with contextlib.suppress(OSError):
            while await self._reader.read(1024):
                continue


type Action = Callable[[Session], Awaitable[None]]


class Control:
    """The listening side."""

    def __init__(self, path: Path, actions: Mapping[str, Action]) -> None:
        self._path = path
        self._actions = actions
        self._listener: socket.socket | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._listener is None:
            self.bind()
        server = await asyncio.start_unix_server(self._serve, sock=self._listener)
        async with server:
            await server.serve_forever()

    def bind(self) -> None:
        """Take the name: an older gateway's socket gives way at once, and is not missed by it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{secrets.token_hex(4)}.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(os.fspath(fresh))
        fresh.chmod(0o600)
        listener.listen()
        fresh.replace(self._path)
        self._listener = listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(reader, writer)
        try:
            request = json.loads(await reader.readline())
            await self._actions.get(request.get("command", ""), _unknown)(session)
        except (ControlFailed, ValueError, AttributeError) as exc:
            await session.send({"failed": str(exc)})
        else:
            await session.send({"done": True})
        finally:
            writer.close()


async def _unknown(_session: Session) -> None:
    raise ControlFailed("the running gateway does not know this command; is it an older version?")


def ask(path: Path, command: str) -> Generator[str]:
    """Have a command done; yields what is said meanwhile. Blocks.

    Raises: ControlFailed, also when no gateway runs.
    """
    with contextlib.closing(_connect(path)) as connection:
        connection.sendall(json.dumps({"command": command}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                value: dict[str, Any] = json.loads(line)
                if "failed" in value:
                    raise ControlFailed(str(value["failed"]))
                if "done" in value:
                    return
                yield str(value.get("said", ""))
    raise ControlFailed("the gateway ended before it was done")


def is_running(path: Path) -> bool:
    """Whether a gateway listens."""
    try:
        _connect(path).close()
    except ControlFailed:
        return False
    return True


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_S)
    try:
        connection.connect(os.fspath(path))
    except OSError as exc:
        connection.close()
        raise ControlFailed(f"no gateway runs on this data folder ({path}: {exc.strerror})") from exc
    return connection
