"""Owns what one process remembers for moments: who a token belongs to, and downloads not yet counted."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

MOST_REMEMBERED: Final = 10_000


class ShortMemory[V]:
    """Values by key that are believed for ``ttl_s`` seconds and then asked for again."""

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        """The value, if it was put lately."""
        found = self._values.get(key)
        # Longer than anything is believed: the clock was set back since, and what was true then may not be now.
        return found[1] if found is not None and 0 < found[0] - self._clock() <= self._ttl_s else None

    def put(self, key: str, value: V) -> None:
        """Remember, and forget the oldest when there are too many."""
        with self._lock:
            self._values[key] = (self._clock() + self._ttl_s, value)
            self._values.move_to_end(key)
            while len(self._values) > MOST_REMEMBERED:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget all, because something that was remembered is no longer true."""
        with self._lock:
            self._values.clear()


class Tally:
    """Counts by image that are written to the database together, not one by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()

    def add(self, image_id: int) -> None:
        with self._lock:
            self._counts[image_id] += 1

    def take(self) -> Mapping[int, int]:
        """What was counted since the last time."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return taken

    def put_back(self, counted: Mapping[int, int]) -> None:
        """Count again what could not be written."""
        with self._lock:
            self._counts.update(counted)
