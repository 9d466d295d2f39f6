"""Owns the world of an outbox in tests: a store of names, a scripted core, a switch for its health."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.contract import Commit, CommittedImage
from gateway.core_api import CommittedReference
from gateway.errors import BlobMissing, StoreDown, StoreFull
from gateway.outbox import Committed, Outbox, Pending
from gateway.outbox_records import Delivery, Placement
from gateway.store.base import SealedBlob

SHA = "ab" * 32


class Died(BaseException):
    """The process ends here."""


class PlacingStore:
    """The part of a store that the outbox uses: staged names, stored digests, keys."""

    def __init__(self, *staged: str) -> None:
        self.staged = set(staged)
        self.stored: set[str] = set()
        self.keys: set[str] = set()
        self.fails: list[BaseException | None] = []

    def place(self, sealed: SealedBlob, *, sha256: str, key: str) -> bool:
        failure = self.fails.pop(0) if self.fails else None
        if isinstance(failure, StoreDown | StoreFull):
            raise failure
        if sealed.staged in self.staged:
            self.staged.remove(sealed.staged)
            self.stored.add(sha256)
        elif sha256 not in self.stored:
            raise BlobMissing
        is_new = key not in self.keys
        self.keys.add(key)
        if failure is not None:
            raise failure
        return is_new

    def delete(self, key: str) -> None:
        self.keys.discard(key)

    def discard_staged(self, staged: str) -> None:
        self.staged.discard(staged)


class ScriptedCore:
    """Answers as scripted, then with success; remembers what it was told. A failure may be told to come after."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.answers: list[BaseException | None] = []

    async def tell(self, commit: Commit, *, request_id: str) -> tuple[CommittedReference, ...]:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.told.append(commit.ticket)
        return tuple(
            CommittedReference(ref=f"a/b/c:{image.tag}", sha256=image.sha256, size=image.size, url="/x")
            for image in commit.images
        )


class Switch:
    """A health that the test sets."""

    def __init__(self, *, is_up: bool = True) -> None:
        self.is_up = is_up
        self.down_s = 0.0
        self.callbacks: list[Callable[[], Awaitable[object]]] = []

    def on_up(self, callback: Callable[[], Awaitable[object]]) -> None:
        self.callbacks.append(callback)

    async def come_up(self) -> None:
        for callback in self.callbacks:
            await callback()
        self.is_up = True


class Box:
    """One life of an outbox on the given folder."""

    def __init__(
        self, root: Path, store: PlacingStore, *, is_up: bool = True, patience_s: float = 0.0
    ) -> None:
        self.core = ScriptedCore()
        self.health = Switch(is_up=is_up)
        self.store = store
        self.root = root
        self.outbox = Outbox(
            root,
            store,
            self.core,
            self.health,
            durable=False,
            patience_s=patience_s,
        )
        self.outbox.recover()

    @property
    def records(self) -> list[str]:
        return names(self.root / "pending")

    async def commit(self, number: int = 1, key: str = "") -> Committed | Pending:
        return await self.outbox.commit(delivery(number, key), request_id="r")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def delivery(number: int = 1, key: str = "") -> Delivery:
    placed = Placement(staged=f"s{number}", size=3, sha256=SHA, key=key or f"a/b/c{number}:sha256.{SHA}")
    image = CommittedImage(sha256=SHA, size=3, name="c", tag="v1", filename="c.sif")
    return Delivery(
        ticket_id=f"id{number}", commit=Commit(ticket=f"token{number}", images=(image,)), placements=(placed,)
    )
