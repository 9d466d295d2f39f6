"""Owns when an upstream is left alone: failures in a row or slow answers open its circuit, one good try closes it.

Sans I/O: told what happened, and when by a monotonic clock in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

REFUSED: Final = -1  # no request may go now
REMEMBERED: Final = 20  # so many of the latest answers tell whether it is slow
LEAST_SEEN: Final = 10  # fewer answers tell nothing
FORGOTTEN_S: Final = 60.0  # answers that nobody followed for this long tell nothing about now
CALM_S: Final = 60.0  # closed for this long: the next outage begins with the shortest pause again
_MOST_GROWTH: Final = 16
_ALL_REMEMBERED: Final = (1 << REMEMBERED) - 1


class CircuitState(StrEnum):
    """``half_open``: a request has been let through to try."""

    closed = "closed"
    half_open = "half-open"
    open = "open"


# What the metric says.
LEVELS: Final = {CircuitState.closed: 0, CircuitState.half_open: 1, CircuitState.open: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """When it opens, and for how long.

    max_fails: failures in a row, of requests or of probes; 0 = only probes count, and each one.
    slow_s, slow_share: answers that took at least this long, of the latest ones; 0 s = none is slow.
    pause_s, pause_max_s: from one try to the next; doubles with each that fails.
    is_probed: an active check tries, no request does.
    """

    max_fails: int = 3
    slow_s: float = 0.0
    slow_share: float = 0.5
    pause_s: float = 1.0
    pause_max_s: float = 30.0
    is_probed: bool = False


class Circuit:
    """One upstream's circuit. ``changed`` is told of every change of ``state``.

    A request asks ``admit`` and reports with the pass that it got: what was sent before the circuit opened says
    nothing about the upstream after that.
    """

    def __init__(self, policy: CircuitPolicy, *, changed: Callable[["Circuit"], None] | None = None) -> None:
        self.policy = policy
        self.state = CircuitState.closed
        self.since = 0.0
        self.reason = ""
        self.fails = 0
        self.next_try = 0.0
        self._changed = changed
        self._pass = 0
        self._first_try = 0
        self._growth = 0
        self._closed_at = float("-inf")
        self._probe_fails = 0
        self._slow_bits = 0
        self._seen = 0
        self._seen_at = 0.0

    def admit(self, now: float) -> int:
        """A pass for one request, or ``REFUSED``."""
        return REFUSED if self.refuses(now) else self.insist(now)

    def insist(self, now: float) -> int:
        """A pass in any case, for what must not be in vain; where the circuit is open, it is a try."""
        return self._pass if self.state is CircuitState.closed else self._try(now)

    def _try(self, now: float) -> int:
        self._pass += 1
        self.next_try = now + self._pause()  # a try that hangs must not keep the others away for ever
        self._enter(CircuitState.half_open, now, self.reason)
        return self._pass

    def refuses(self, now: float) -> bool:
        """Whether a request would be refused now; takes nobody's try."""
        return self.state is not CircuitState.closed and (self.policy.is_probed or now < self.next_try)

    def succeeded(self, given: int, now: float, *, took_s: float = 0.0) -> None:
        """It answered, ``took_s`` after it had the whole request."""
        is_slow = 0.0 < self.policy.slow_s <= took_s
        if self.state is not CircuitState.closed:
            if given < self._first_try:
                return
            if is_slow:
                self._try_failed(given, now, _took(took_s))
            else:
                self._close(now)
            return
        if given == self._pass:
            self.fails = 0
            if self.policy.slow_s:
                self._note_pace(now, is_slow=is_slow, took_s=took_s)

    def failed(self, given: int, now: float, why: str) -> None:
        """It did not answer, or not in HTTP."""
        if self.state is not CircuitState.closed:
            self._try_failed(given, now, why)
            return
        if given != self._pass:
            return
        self.fails += 1
        if 0 < self.policy.max_fails <= self.fails:
            self._open(now, why)

    def abandoned(self, given: int, now: float) -> None:
        """The request ended without telling anything about the upstream (the client left)."""
        if self.state is CircuitState.half_open and given == self._pass:
            self.next_try = now

    def probe_succeeded(self, now: float) -> None:
        """The active check was answered well."""
        self._probe_fails = 0
        if self.state is not CircuitState.closed and now >= self.next_try:
            self._close(now)

    def probe_failed(self, now: float, why: str) -> None:
        """The active check was not answered well."""
        self._probe_fails += 1
        if self.state is not CircuitState.closed:
            self.next_try = now
            self.reason = why
        elif self._probe_fails >= max(1, self.policy.max_fails):
            self._open(now, why)
            self.next_try = now  # the next good answer of the check is enough

    def reset(self, now: float) -> None:
        """It is another process now: nothing is known about it."""
        self._growth = 0
        if self.state is not CircuitState.closed:
            self._close(now)
        self.fails = self._seen = self._slow_bits = 0
        self._closed_at = float("-inf")

    def _note_pace(self, now: float, *, is_slow: bool, took_s: float) -> None:
        if now - self._seen_at > FORGOTTEN_S:
            self._seen = self._slow_bits = 0
        self._seen_at = now
        self._seen = min(self._seen + 1, REMEMBERED)
        self._slow_bits = (self._slow_bits << 1 | is_slow) & _ALL_REMEMBERED
        slow = self._slow_bits.bit_count()
        if is_slow and self._seen >= LEAST_SEEN and slow >= self.policy.slow_share * self._seen:
            self._open(now, f"{slow} of {self._seen} answers are slow; {_took(took_s)}")

    def _open(self, now: float, why: str) -> None:
        is_calm = now - self._closed_at >= CALM_S
        self._growth = 0 if is_calm else min(self._growth + 1, _MOST_GROWTH)
        self._first_try = self._pass + 1
        self._pause_from(now, why)

    def _try_failed(self, given: int, now: float, why: str) -> None:
        if given < self._first_try or given != self._pass:
            return
        self._growth = min(self._growth + 1, _MOST_GROWTH)
        self._pause_from(now, why)

    def _pause_from(self, now: float, why: str) -> None:
        self.next_try = now + self._pause()
        self._enter(CircuitState.open, now, why)

    def _pause(self) -> float:
        return min(self.policy.pause_s * (1 << self._growth), self.policy.pause_max_s)

    def _close(self, now: float) -> None:
        self._pass += 1  # answers to what was sent before are old news
        self._closed_at = now
        self.fails = self._probe_fails = self._seen = self._slow_bits = 0
        self._enter(CircuitState.closed, now, "")

    def _enter(self, state: CircuitState, now: float, reason: str) -> None:
        is_new = state is not self.state
        self.state = state
        self.reason = reason
        if is_new:
            self.since = now
            if self._changed is not None:
                self._changed(self)


def _took(seconds: float) -> str:
    return f"the last one took {seconds:.1f} s"
