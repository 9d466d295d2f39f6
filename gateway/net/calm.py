"""Owns how much of what costs us more than its sender one HTTP/2 connection may send: resets and frames for nothing.

A bucket that refills with time, and with content: who moves bytes may also speak about them.
"""

from typing import Final

# CVE-2023-44487: a request and its reset cost a client nothing. A browser that leaves a page resets a few dozen.
RESETS: Final = 200.0
RESETS_PER_S: Final = 10.0
# PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA and frames that nobody knows.
NOISE: Final = 2000.0
NOISE_PER_S: Final = 50.0
# Receivers that update their windows often do so about once for each 16 KiB frame, for stream and connection.
CONTENT_BYTES_PER_NOISE: Final = 4096


class Bucket:
    """``most`` at once, ``per_s`` in the long run."""

    __slots__ = ("_left", "_most", "_per_s", "_since")

    def __init__(self, most: float, per_s: float, now: float) -> None:
        self._most = self._left = most
        self._per_s = per_s
        self._since = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        self._left = min(self._most, self._left + (now - self._since) * self._per_s) - 1
        self._since = now
        return self._left >= 0

    def give(self, amount: float) -> None:
        """Put some back."""
        self._left = min(self._most, self._left + amount)


class Calm:
    """What one connection has left of the peer's patience."""

    def __init__(self, now: float) -> None:
        self._resets = Bucket(RESETS, RESETS_PER_S, now)
        self._noise = Bucket(NOISE, NOISE_PER_S, now)

    def bears_reset(self, now: float) -> bool:
        """The client took a request back, or made us refuse one; False when it is too much."""
        return self._resets.take(now)

    def bears_noise(self, now: float) -> bool:
        """A frame came that moves nothing; False when it is too much."""
        return self._noise.take(now)

    def note_content(self, size: int) -> None:
        """Content went, either way."""
        self._noise.give(size / CONTENT_BYTES_PER_NOISE)
