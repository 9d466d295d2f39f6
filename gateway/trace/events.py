"""Owns what a process tells ``gateway trace``: events, where they go, and the hops that they are of.

An event is a JSON object: ``event`` is ``request`` (a head was read), ``answer`` (the client's request is over), or
``hop`` (an exchange with the core, a route's backend or S3 is over). Secrets are masked before anything leaves the
process; bodies are never looked at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

type Event = dict[str, Any]
type Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Where events go, and whether heads are wanted in them just now."""

    publish: Callable[[Event], None]
    wants_heads: Callable[[], bool]


class Hop(Protocol):
    """An upstream that can be watched, and led through a proxy on loopback."""

    @property
    def kind(self) -> str:
        """``core``, ``s3`` or a route's place."""
        ...

    def watch(self, sight: Sight | None) -> None:
        """Let every exchange be seen from now on; None: none."""
        ...

    def detour(self, address: Address | None) -> None:
        """Dial this plain address instead from now on; None: the own one again."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Where it leads (``url``), and what else who stands in the hop must know. May hold keys."""
        ...
