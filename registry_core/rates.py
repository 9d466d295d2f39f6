"""Owns how many requests one token or one address may make: far more than any real push, and not without end.

The core is one process behind all of the gateway's, so that its own memory is enough to share the counts.
"""

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.contract import INTERNAL_PREFIX
from gateway.errors import TooManyRequests, Unauthorized
from registry_core.addresses import counted_as
from registry_core.errors import UnknownToken

# A minute's worth may come at once: a push of ten thousand parts is no attack.
BURST_S: Final = 60.0
_MOST_KEYS: Final = 50_000
_WRONG_TOKEN_COSTS: Final = 20
_UNAUTHORIZED: Final = 401
_OPEN: Final = (INTERNAL_PREFIX, "/version", "/assets/", "/static/")


class RateLimit:
    """``per_s`` requests by key, in the long run; 0 = no limit.

    A key's whole state is the moment at which it would be even (the generic cell rate algorithm).
    """

    def __init__(self, *, per_s: float, clock: Callable[[], float]) -> None:
        self._cost_s = 1 / per_s if per_s else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._even_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str) -> int:
        """0 if the key may go on, else in how many seconds it may ask again."""
        late = self._even_at.get(key, 0.0) - self._clock() - BURST_S
        return max(0, math.ceil(late))

    def charge(self, key: str, requests: float = 1.0) -> None:
        """Count what the key did."""
        if not self._cost_s:
            return
        with self._lock:
            at = max(self._even_at.get(key, 0.0), self._clock())
            self._even_at[key] = at + requests * self._cost_s
            self._even_at.move_to_end(key)
            while len(self._even_at) > _MOST_KEYS:
                self._even_at.popitem(last=False)


class RateGate:
    """Refuses requests of tokens and addresses that asked too much. What every client asks first stays open."""

    def __init__(self, app: ASGIApp, *, tokens: RateLimit, addresses: RateLimit) -> None:
        self._app = app
        self._tokens = tokens
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OPEN):
            await self._app(scope, receive, send)
            return
        token, address = _who(scope)
        limit, key = (self._tokens, token) if token else (self._addresses, address)
        # Whoever sends one wrong token after the other is counted by address, whatever the tokens.
        wait_s = max(limit.wait_s(key), self._addresses.wait_s(address))
        if wait_s:
            raise TooManyRequests("Too many requests. Wait a moment.", retry_after_s=wait_s)
        limit.charge(key)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == _UNAUTHORIZED:
                self._addresses.charge(address, _WRONG_TOKEN_COSTS)
            await send(message)

        try:
            await self._app(scope, receive, send_counted if token else send)
        except (Unauthorized, UnknownToken):
            if token:
                self._addresses.charge(address, _WRONG_TOKEN_COSTS)
            raise


def _who(scope: Scope) -> tuple[str, str]:
    """A key for the token that was sent, or "", and the address that the gateway vouches for."""
    token, address = "", scope["client"][0] if scope.get("client") else ""
    for name, value in scope["headers"]:
        if name == b"authorization" and value:
            token = hashlib.sha256(value).hexdigest()
        elif name == b"x-real-ip":
            address = value.decode("latin-1")
    return token, counted_as(address)
