"""Owns where an upstream is, and how a connection to it is opened: dial, hold while it restarts, give up."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

from gateway.errors import CoreDown

_REDIAL_S: Final = 0.025  # often enough that nobody notices a restart, rare enough to cost nothing
_EPISODE_GAP_S: Final = 5.0  # refusals further apart than this belong to two outages, each with its own hold


class Health(Protocol):
    """What is known about an upstream by more than the request at hand (probes, a supervisor)."""

    @property
    def is_up(self) -> bool:
        """Whether requests have a chance. False for a hung upstream that still accepts connections."""
        ...

    @property
    def hold_s(self) -> float:
        """How much longer a request that comes now may wait for it."""
        ...

    @property
    def down(self) -> asyncio.Future[None]:
        """Done when the upstream is declared down. A new one after each recovery. Never cancelled by readers."""
        ...

    async def wait_up(self, timeout_s: float) -> bool:
        """Wait until it is up, at most this long; whether it is."""
        ...

    def note_alive(self) -> None:
        """It answered."""
        ...

    def note_refused(self) -> None:
        """Nobody listens."""
        ...

    def note_dial_failed(self) -> None:
        """A dial failed in another way."""
        ...


async def await_up(health: Health) -> None:
    """Wait for an upstream that is down, for as long as the outage's hold lasts. Raises: CoreDown."""
    while not health.is_up:
        left_s = health.hold_s
        if left_s <= 0:
            raise CoreDown(detail="the upstream is not healthy")
        await health.wait_up(left_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialHold:
    """Patience with an upstream that refuses connections: ``seconds`` from the first refusal of an outage on.

    Whoever comes later in the same outage is refused at once, so that a long outage costs nobody time. Where there
    is a ``health``, its word counts: it hears of the refusal, and the next dial waits for it.
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

    @classmethod
    def parse(cls, text: str) -> Self:
        """``unix:/path`` or ``http(s)://host[:port]``. Raises: ValueError."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if not path.startswith("/"):
                raise ValueError(f"'{text}': a unix socket needs an absolute path, unix:/run/core.sock")
            return cls(path=path)
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
            raise ValueError(f"'{text}' is no origin: use unix:/path or http://host:port")
        is_tls = parts.scheme == "https"
        return cls(host=parts.hostname, port=parts.port or (443 if is_tls else 80), is_tls=is_tls)


class Dialer:
    """Opens connections to one origin and remembers since when it refuses them."""

    def __init__(self, origin: Origin, *, connect_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._origin = origin
        self._detour: Origin | None = None
        self.connect_s = connect_s
        self._tls = (tls or ssl.create_default_context()) if origin.is_tls else None
        self._refused_first = 0.0
        self._refused_last = float("-inf")

    async def dial[P: asyncio.Protocol](self, make: Callable[[], P], hold: DialHold | None) -> P:
        """A new connection.

        Raises: CoreDown when nobody accepts it, after the hold.
        """
        while True:
            try:
                async with asyncio.timeout(self.connect_s):
                    protocol = await self._connect(make)
            except (OSError, TimeoutError) as error:
                # Not only a refusal: an unreachable host or a full backlog of a hung process is down, too.
                if not await self._may_redial(error, hold):
                    raise CoreDown(detail=f"cannot connect to {self.name}: {error!r}") from error
            else:
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

    def detour(self, origin: Origin | None) -> None:
        """Dial this plain address from now on, as long as somebody listens there; None: the own one again."""
        self._detour = origin

    async def _may_redial(self, error: OSError, hold: DialHold | None) -> bool:
        """Wait for the next dial, if there is to be one. Raises: CoreDown."""
        health = hold.health if hold else None
        if health is not None:
            if isinstance(error, ConnectionRefusedError | FileNotFoundError):
                health.note_refused()
            else:
                health.note_dial_failed()
            if not health.is_up:
                await await_up(health)
                return True
        patience = self._patience(asyncio.get_running_loop().time(), hold)
        if patience <= 0 or isinstance(error, ssl.SSLError):
            return False
        await asyncio.sleep(min(_REDIAL_S, patience))
        return True

    def _patience(self, now: float, hold: DialHold | None) -> float:
        """Seconds left to hold a dial that was refused just now."""
        seconds = hold.seconds if hold else 0.0
        if now - self._refused_last > max(_EPISODE_GAP_S, seconds):
            self._refused_first = now
        self._refused_last = now
        return self._refused_first + seconds - now

    async def _connect[P: asyncio.Protocol](self, make: Callable[[], P]) -> P:
        if self._detour is not None:
            # Whoever inspects may be gone, which must not look as if the upstream were.
            with suppress(OSError):
                return await self._connect_to(self._detour, make, None)
        return await self._connect_to(self._origin, make, self._tls)

    async def _connect_to[P: asyncio.Protocol](
        self, origin: Origin, make: Callable[[], P], tls: ssl.SSLContext | None
    ) -> P:
        loop = asyncio.get_running_loop()
        if origin.path:
            transport, protocol = await loop.create_unix_connection(make, origin.path)
        else:
            transport, protocol = await loop.create_connection(make, origin.host, origin.port, ssl=tls)
        try:
            transport.get_extra_info("socket").getpeername()
        except OSError:
            # Lost at once; or a unix socket with a full backlog, which looks like success to asyncio.
            transport.abort()
            raise
        return protocol
