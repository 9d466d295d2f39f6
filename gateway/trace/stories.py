"""Owns how events become stories: a client's request with all its hops, shown when it is over; and which are wanted.

Sans-I/O: the caller says what time it is.
"""

import heapq
import ipaddress
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from gateway.trace.events import Event

_STATUS: Final = re.compile(r"[1-5](\d\d|xx)")
_OPERATIONS: Final = "/-/"
SETTLE_S: Final = 0.15  # an upstream's last word may come just after the answer
OVERDUE_S: Final = 5.0
_MOST_OPEN: Final = 20_000


@dataclass(slots=True)
class Story:
    """One request of a client, or one exchange of the gateway's own. ``answer`` is None while it runs."""

    request: Event | None = None
    answer: Event | None = None
    hops: list[Event] = field(default_factory=list)
    due: float = 0.0
    is_overdue: bool = False

    @property
    def main(self) -> Event:
        """The event that tells most."""
        return self.answer or self.request or self.hops[0]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return float(self.main.get("seconds") or 0.0)

    def as_json(self) -> Event:
        """One object."""
        return {**self.main, "hops": self.hops} if self.answer is not None else self.main


class BadFilter(Exception):
    """A filter that cannot be; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which stories are wanted; empty = all. Raises: BadFilter."""

    paths: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    slower_than_s: float = 0.0
    with_operations: bool = False

    def __post_init__(self) -> None:
        for status in self.statuses:
            if not _STATUS.fullmatch(status.lower()):
                raise BadFilter(f"'{status}' is no status: use 503 or 4xx")
        for client in self.clients:
            try:
                ipaddress.ip_network(client, strict=False)
            except ValueError as exc:
                raise BadFilter(f"'{client}' is no address or network: {exc}") from exc

    def wants(self, story: Story) -> bool:
        """Whether a story, over or not, is to be shown. A status is looked for in every hop."""
        main = story.main
        path = str(main.get("target", "")).partition("?")[0]
        if path.startswith(_OPERATIONS) and not self.with_operations and not self.paths:
            return False
        if self.paths and not any(fnmatchcase(path, glob) for glob in self.paths):
            return False
        if self.methods and main.get("method") not in {method.upper() for method in self.methods}:
            return False
        if self.clients and not any(_is_within(str(main.get("client", "")), net) for net in self.clients):
            return False
        return story.seconds >= self.slower_than_s and self._wants_status(story)

    def _wants_status(self, story: Story) -> bool:
        if not self.statuses:
            return True
        seen = {str(event.get("status", 0)) for event in (story.main, *story.hops)}
        return any(_is_status(code, wanted.lower()) for wanted in self.statuses for code in seen)


def _is_status(code: str, wanted: str) -> bool:
    return code[:1] == wanted[0] if wanted.endswith("xx") else code == wanted


def _is_within(client: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(client) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


class Stories:
    """Puts events together. ``inspected`` names the hops that are told of by the inspector, not by the gateway."""

    def __init__(self, *, inspected: frozenset[str] = frozenset()) -> None:
        self._inspected = inspected
        self._open: dict[str, Story] = {}

    def add(self, event: Event, now: float, *, by_inspector: bool = False) -> None:
        """Take one event."""
        match event.get("event"):
            case "request":
                self._story(event, now).request = event
            case "answer":
                story = self._story(event, now)
                story.answer = event
                story.due = now + SETTLE_S
            case "hop" if by_inspector or event.get("hop") not in self._inspected:
                story = self._story(event, now)
                story.hops.append(event)
                if story.request is None and story.answer is None:
                    story.due = now + SETTLE_S  # the gateway's own, or its request began before we listened

    def take_finished(self, now: float) -> list[Story]:
        """The stories that are over, oldest first."""
        over = [name for name, story in self._open.items() if story.due and story.due <= now]
        return [self._open.pop(name) for name in over]

    def take_overdue(self, now: float) -> list[Story]:
        """The stories that run long already, each once."""
        found = [
            story
            for story in self._open.values()
            if not story.due and not story.is_overdue and now - float(story.main["seen"]) > OVERDUE_S
        ]
        for story in found:
            story.is_overdue = True
        return found

    def rest(self) -> list[Story]:
        """What is left at the end: the finished ones and those that still run."""
        left = list(self._open.values())
        self._open.clear()
        return left

    def _story(self, event: Event, now: float) -> Story:
        event.setdefault("seen", now)
        # An exchange without an id of a request is a story of its own.
        name = event.get("id") or f"alone {id(event)}"
        if len(self._open) >= _MOST_OPEN and name not in self._open:
            self._open.pop(next(iter(self._open)))
        return self._open.setdefault(str(name), Story())


class Slowest:
    """The slowest stories so far."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, int, Story]] = []
        self._number = 0

    def add(self, story: Story) -> None:
        """Take one story."""
        self._number += 1
        item: tuple[float, int, Any] = (story.seconds, -self._number, story)
        if len(self._kept) < self._count:
            heapq.heappush(self._kept, item)
        else:
            heapq.heappushpop(self._kept, item)

    def ranked(self) -> list[Story]:
        """Slowest first."""
        return [story for _, _, story in sorted(self._kept, reverse=True)]
