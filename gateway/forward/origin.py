"""Owns where an upstream is, and how a connection to it is opened: dial, hold while it restarts, give up."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from gateway.errors import CoreDown

_REDIAL_S: Final = 0.025  # often enough that nobody notices a restart, rare enough to cost nothing
_EPISODE_GAP_S: Final = 5.0  # refusals further apart than this belong to two outages, each with its own hold


class Health(Protocol):
    """What is known about an upstream by other means than the request at hand (a probe, a supervisor)."""

    @property
    def is_up(self) -> bool:
        """Whether requests have a chance. False for a hung upstream that still accepts connections."""
        ...

    async def wait_up(self, timeout_s: float) -> bool:
        """Wait until it is up, at most this long; whether it is."""
        ...

    @property
    def down(self) -> asyncio.Future[None]:
        """Done when the upstream is declared down. A new one after each recovery. Never cancelled by readers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DialHold:
    """Patience with an upstream that refuses connections: ``seconds`` from the first refusal of an outage on.

    Whoever comes later in the same outage is refused at once, so that a long outage costs nobody time.
    """

    seconds: float
    health: Health | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an upstream listens. ``path`` is set for a unix socket, ``host`` and ``port`` otherwise."""

    path: str = ""
    host: str = ""
    port: int = 0
    is_tls: bool = False


def parse_origin(text: str) -> Origin:
    """``unix:/path`` or ``http(s)://host[:port]``. Raises: ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"'{text}': a unix socket needs an absolute path, unix:/run/core.sock")
        return Origin(path=path)
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise ValueError(f"'{text}' is no origin: use unix:/path or http://host:port")
    is_tls = parts.scheme == "https"
    return Origin(host=parts.hostname, port=parts.port or (443 if is_tls else 80), is_tls=is_tls)


class Dialer:
    """Opens connections to one origin and remembers since when it refuses them."""

    def __init__(self, origin: Origin, *, connect_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._origin = origin
        self._connect_s = connect_s
        self._tls = (tls or ssl.create_default_context()) if origin.is_tls else None
        self._refused_first = 0.0
        self._refused_last = float("-inf")
        self.has_connected = False

    async def dial[P: asyncio.Protocol](self, make: Callable[[], P], hold: DialHold | None) -> P:
        """A new connection. Raises: CoreDown when nobody accepts it, after the hold."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(self._connect_s):
                    protocol = await self._connect(make)
            except (OSError, TimeoutError) as error:
                # Not only a refusal: an unreachable host or a full backlog of a hung process is down, too.
                patience = self._patience(loop.time(), hold)
                if patience <= 0 or isinstance(error, ssl.SSLError):
                    raise CoreDown(detail=f"cannot connect to {self.name}: {error!r}") from error
                await asyncio.sleep(min(_REDIAL_S, patience))
            else:
                self.has_connected = True
                self._refused_last = float("-inf")
                return protocol

    @property
    def name(self) -> str:
        """The origin for the log."""
        origin = self._origin
        return f"unix:{origin.path}" if origin.path else f"{origin.host}:{origin.port}"

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self._tls is not None

    def _patience(self, now: float, hold: DialHold | None) -> float:
        """Seconds left to hold a dial that was refused just now."""
        seconds = hold.seconds if hold else 0.0
        if now - self._refused_last > max(_EPISODE_GAP_S, seconds):
            self._refused_first = now
        self._refused_last = now
        return self._refused_first + seconds - now

    async def _connect[P: asyncio.Protocol](self, make: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        origin = self._origin
        if origin.path:
            transport, protocol = await loop.create_unix_connection(make, origin.path)
        else:
            transport, protocol = await loop.create_connection(make, origin.host, origin.port, ssl=self._tls)
        try:
            transport.get_extra_info("socket").getpeername()
        except OSError:
            # Lost at once; or a unix socket with a full backlog, which looks like success to asyncio.
            transport.abort()
            raise
        return protocol
