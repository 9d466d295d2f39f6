"""Owns when waiting ends: one loop timer for all connections of a pool, re-armed only when it must fire earlier.

A timer per request costs more than the request's parsing; nearly all of them are cancelled unfired.
"""

import asyncio
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")


class DeadlineTimer:
    """Calls ``expire(now)``, which ends what is due and returns the next deadline, at or after the earliest one."""

    __slots__ = ("_at", "_expire", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[float], float]) -> None:
        self._loop = loop
        self._expire = expire
        self._at = NEVER
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, when: float) -> None:
        """See to it that the timer fires at ``when`` or earlier."""
        if when >= self._at:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._at = when
        self._handle = self._loop.call_at(when, self._fire)

    def cancel(self) -> None:
        """Never fire again."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._at = NEVER

    def _fire(self) -> None:
        self._handle = None
        self._at = NEVER
        self.arm(self._expire(self._loop.time()))
