"""Owns what the outbox needs of those around it: a store, a core, and whether the core is well."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.contract import Commit
from gateway.core_api import CommittedReference
from gateway.store.base import SealedBlob


class CoreTeller(Protocol):
    """The part of ``CoreApi`` that is needed here."""

    async def tell(self, commit: Commit, *, request_id: str) -> tuple[CommittedReference, ...]:
        """Raises: CoreRefused, CoreDown, UpstreamError."""
        ...


class Shelves(Protocol):
    """The part of a ``BlobStore`` that is needed here."""

    def place(self, sealed: SealedBlob, *, sha256: str, key: str) -> bool:
        """Make sealed bytes visible under a key; whether it is new."""
        ...

    def delete(self, key: str) -> None:
        """Forget a key."""
        ...

    def discard_staged(self, staged: str) -> None:
        """Remove what was not placed."""
        ...


class Health(Protocol):
    """The part of ``CoreHealth`` that is needed here."""

    @property
    def is_up(self) -> bool:
        """Whether the core may be told now."""
        ...

    @property
    def down_s(self) -> float:
        """Seconds since it went away."""
        ...

    def on_up(self, callback: Callable[[], Awaitable[object]]) -> None:
        """Call it at each return of the core."""
        ...
