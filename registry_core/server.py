"""Owns the listening socket and the server process of the registry core."""

import json
import logging
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from gateway.errors import SettingsError
from gateway.settings import Settings
from registry_core.app import build_app
from registry_core.registry import Registry

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_DRAIN_S: Final = 20


def bind_unix(path: Path) -> socket.socket:
    """Listen at ``path``: bound under another name and renamed, so that an older core's socket gives way at once.

    That older process must not remove the name when it ends; it has the file no longer.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    fresh = path.with_name(f".{secrets.token_hex(4)}.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(fresh))
        listener.listen(_BACKLOG)
        fresh.chmod(0o600)
        fresh.replace(path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def bind_tcp(address: str) -> socket.socket:
    """Listen at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    return socket.create_server((host.strip("[]"), int(port)), backlog=_BACKLOG)


class Hangup:
    """SIGHUP: the settings are read again, and the store goes on with the keys that they name now.

    Made before anything else, so that a signal during the start is not lost (nor the end of the process).
    """

    def __init__(self, read: Callable[[], Settings]) -> None:
        """``read`` raises: SettingsError."""
        self._read = read
        self._wanted = threading.Event()
        signal.signal(signal.SIGHUP, lambda *_: self._wanted.set())

    def obey(self, registry: Registry) -> None:
        """From now on, in a thread that ends with the process."""
        threading.Thread(target=self._obey, args=(registry,), name="hangup", daemon=True).start()

    def _obey(self, registry: Registry) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            try:
                registry.lazy_store.renew_keys(self._read())
            except SettingsError as exc:
                log.error("the settings stay as they are: %s", exc)  # noqa: TRY400 - it says all there is
            else:
                log.info("the keys of the store were read again")


def serve(registry: Registry, listener: socket.socket) -> None:
    """Serve until SIGTERM, then finish what runs."""
    config = uvicorn.Config(
        build_app(registry),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,  # the gateway writes it
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_keep_alive=120,  # longer than the gateway keeps a connection, so that it never meets a closed one
        timeout_graceful_shutdown=_DRAIN_S,
    )
    # uvicorn sends itself the signal again when all is finished; that end is a good one, exit code 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


class JsonLines(logging.Formatter):
    """A line is one object, whatever a client asked for: a path may hold quotes and ends of lines."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": f"core.{record.name}",
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=True)


class PlainLines(logging.Formatter):
    """A line for people; what clients sent cannot begin another one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 – the base class's name
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def configure_logging(*, level: str, form: str) -> None:
    """One line per event on standard error, in the form that the gateway uses."""
    handler = logging.StreamHandler()
    plain = PlainLines("%(asctime)s %(levelname)s core %(name)s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
