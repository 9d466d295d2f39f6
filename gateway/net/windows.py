"""Owns how much HTTP/2 clients may send before somebody reads it: the windows of RFC 9113 section 5.2.

A window is a promise of memory. Each stream starts with the protocol's own 64 KiB; a body that is being read gets
several MiB, because one round trip's worth of bytes is what an upload moves in one round trip; and the promises of
all connections together are bounded. Whatever was promised and is not used up stays counted until it is.
"""

from typing import Final

INITIAL_BYTES: Final = 65_535  # of every stream and connection, until updated (RFC 9113 section 6.9.2)
STREAM_BYTES: Final = 4 * 1024 * 1024
CONNECTION_BYTES: Final = 256 * 1024  # beside what its streams were lent
_WORTH_TELLING: Final = 4  # an update is sent for a fourth of the window


class WindowBudget:
    """What may be lent to all connections of one listener beyond their start."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._lent = 0

    @property
    def left(self) -> int:
        """Bytes that nobody was lent."""
        return self.limit_bytes - self._lent

    def take(self, wanted: int) -> int:
        """Borrow up to ``wanted`` bytes; returns how many were had."""
        had = max(0, min(wanted, self.left))
        self._lent += had
        return had

    def give_back(self, amount: int) -> None:
        """Return what was borrowed."""
        self._lent -= amount


class StreamWindow:
    """One stream's. ``open_bytes`` is what the client may still send; ``target`` what it may, with all unread."""

    __slots__ = ("lent", "open_bytes", "target")

    def __init__(self) -> None:
        self.open_bytes = self.target = INITIAL_BYTES
        self.lent = 0

    def update(self, *, unread: int, to_come: int | None) -> int:
        """By how much to widen it now; 0 = not worth a frame. ``to_come``: bytes of the body, None = unknown."""
        if to_come is not None and to_come <= self.open_bytes:
            return 0
        room = self.target - self.open_bytes - unread
        if room < self.target // _WORTH_TELLING:
            return 0
        self.open_bytes += room
        return room


class ConnectionWindow:
    """One connection's, over all its streams; and what it owes the budget."""

    def __init__(self, budget: WindowBudget) -> None:
        self._budget = budget
        self._owed = 0  # borrowed from the budget
        self._lent = 0  # of it, what running streams hold
        self.open_bytes = INITIAL_BYTES
        self.unread = 0
        self._is_closed = False

    def lend(self, stream: StreamWindow, wanted: int) -> None:
        """Widen ``stream`` up to ``wanted`` bytes, as far as there is anything to lend."""
        more = max(0, wanted - stream.target)
        idle = self._owed - self._lent
        had = min(more, idle) + self._borrow(more - idle)
        self._lent += had
        stream.lent += had
        stream.target += had

    def _borrow(self, wanted: int) -> int:
        had = self._budget.take(wanted) if wanted > 0 and not self._is_closed else 0
        self._owed += had
        return had

    def end(self, stream: StreamWindow) -> None:
        """The stream is over; what it was lent goes back as soon as the client has used it up."""
        self._lent -= stream.lent
        stream.lent = 0

    def update(self) -> int:
        """By how much to widen it now; 0 = not worth a frame."""
        out = self.open_bytes + self.unread
        needed = max(self._lent, out - CONNECTION_BYTES)
        if needed < self._owed:
            self._budget.give_back(self._owed - needed)
            self._owed = needed
        target = CONNECTION_BYTES + self._lent
        room = target - out
        if room < target // _WORTH_TELLING:
            return 0
        self.open_bytes += room
        return room

    def close(self) -> None:
        """The connection is gone, and all promises with it."""
        self._budget.give_back(self._owed)
        self._owed = self._lent = 0
        self._is_closed = True  # a handler that has not noticed may still ask
