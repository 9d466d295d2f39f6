"""Owns the promise that what the store has taken the core will learn: placed, told once, whatever crashes between."""

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.contract import UPLOAD_STATUS_PREFIX
from gateway.core_api import CommittedReference
from gateway.errors import (
    BlobMissing,
    CoreDown,
    CoreRefused,
    GatewayError,
    StoreDown,
    StoreError,
    UpstreamError,
)
from gateway.outbox_records import Claim, Delivery, HeldRecord, OutboxFolder, Record
from gateway.outbox_sides import CoreTeller, Health, Shelves
from gateway.store.base import SealedBlob

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0  # other processes leave records too
RETRY_S: Final = 15.0  # after the core failed over one delivery (5xx)
RESULT_LOOK_S: Final = 0.05
RESULTS_SWEPT_EVERY_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The core lists these images."""

    images: tuple[CommittedReference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The bytes are safe; the core will be told when it is back. ``status_path`` turns into the result."""

    status_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The core has decided against a delivery that nobody waited for."""

    status: int
    message: str


type Outcome = Committed | Pending | Refused


class Outbox:
    """Commits deliveries; those that find the core away wait on disk. Folders are shared by all gateway processes."""

    def __init__(
        self,
        root: Path,
        store: Shelves,
        core: CoreTeller,
        health: Health,
        *,
        durable: bool,
        patience_s: float,
    ) -> None:
        """``patience_s``: how long a commit waits for a core that went away before it answers Pending."""
        self._folder = OutboxFolder(root, durable=durable)
        self._store = store
        self._core = core
        self._health = health
        self._patience_s = patience_s
        self._wake = asyncio.Event()
        self._commits: set[asyncio.Task[Committed | Pending]] = set()
        self._not_before: dict[str, float] = {}
        health.on_up(self.flush)

    def recover(self) -> bool:
        """Finish the placings that a crash interrupted; whether none is left. Blocks.

        Where one is left, nobody holds its staged bytes: a sweep would take what a client was promised.
        """
        self._folder.prepare()
        self._folder.sweep(time.time())
        names = self._folder.names()
        missing = [name for name in names if not self._recover_one(name)]
        if names:
            log.info("outbox: %d deliveries wait for the core", len(names))
        return not missing

    def _recover_one(self, name: str) -> bool:
        held = self._folder.hold(name)
        if held is None:
            return True
        try:
            self._place_or_give_up(held)
        except GatewayError as exc:
            log.warning("outbox: %s stays for later: %s", name, exc)
            return False
        finally:
            held.release()
        return True

    def _place_or_give_up(self, held: HeldRecord) -> None:
        try:
            self._place_again(held)
        except BlobMissing:
            self._lost(held)

    async def commit(
        self, delivery: Delivery, *, request_id: str, may_wait_for_store: bool = False
    ) -> Committed | Pending:
        """Make sealed bytes an image. Goes on to its end even when the caller is cancelled.

        ``may_wait_for_store``: a store that is away is waited for like a core. The caller must not remove the
        staged bytes then. Without it they are removed here and the client sends them again.
        Raises: CoreRefused, StoreError, BlobMissing (nothing is kept).
        """
        task = asyncio.get_running_loop().create_task(self._commit(delivery, request_id, may_wait_for_store))
        self._commits.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def status(self, ticket_id: str) -> Outcome | None:
        """What became of a delivery that was answered Pending; None when nothing is known of it. Blocks briefly."""
        if self._folder.is_pending(ticket_id):
            return _pending(ticket_id)
        result = self._folder.result(ticket_id)
        return None if result is None else _outcome(result)

    def pending(self) -> int:
        """How many deliveries wait for the core. Blocks briefly."""
        return len(self._folder.names())

    async def run(self) -> None:
        """Deliver what waits, in order, for as long as the gateway lives."""
        swept = -RESULTS_SWEPT_EVERY_S
        while True:
            if time.monotonic() - swept > RESULTS_SWEPT_EVERY_S:
                swept = time.monotonic()
                await asyncio.to_thread(self._folder.sweep, time.time())
            if self._health.is_up:
                await self._deliver_all()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def flush(self) -> None:
        """Deliver all that waits now, or see another process do it."""
        while not await self._deliver_all():  # noqa: ASYNC110 - no event crosses processes
            await asyncio.sleep(RESULT_LOOK_S)

    async def aclose(self) -> None:
        """Wait for the commits that are on their way."""
        if self._commits:
            await asyncio.wait(self._commits)

    def _over(self, task: "asyncio.Task[Committed | Pending]") -> None:
        self._commits.discard(task)
        if not task.cancelled() and isinstance(exc := task.exception(), GatewayError):
            log.info("outbox: a commit failed: %s", exc)  # its caller may be gone; this also marks it as seen

    async def _commit(self, delivery: Delivery, request_id: str, may_wait: bool) -> Committed | Pending:
        held, claim, is_placed = await asyncio.to_thread(
            self._write_and_place, delivery, request_id, may_wait
        )
        try:
            return await self._tell_or_put_off(delivery, held, claim, request_id, is_placed=is_placed)
        finally:
            held.release()
            claim.release()

    async def _tell_or_put_off(
        self, delivery: Delivery, held: HeldRecord, claim: Claim, request_id: str, *, is_placed: bool
    ) -> Committed | Pending:
        if self._health.is_up and is_placed:
            try:
                images = await self._core.tell(delivery.commit, request_id=request_id)
            except CoreRefused:
                await asyncio.to_thread(self._take_back, held, claim)
                raise
            except UpstreamError as exc:
                log.warning("outbox: %s waits for the core: %s", held.name, exc)
            else:
                await asyncio.to_thread(self._done, held, claim)
                return Committed(images=images)
        await asyncio.to_thread(self._put_off, held, claim)
        self._wake.set()
        return await self._await_result(delivery.ticket_id)

    def _write_and_place(
        self, delivery: Delivery, request_id: str, may_wait: bool
    ) -> tuple[HeldRecord, Claim, bool]:
        """The record, and whether its bytes are in place: a store that is away may take them later."""
        claim: Claim | None = None
        try:
            claim = self._claim(delivery)
            held = self._folder.add(delivery, request_id=request_id)
        except StoreError:
            if claim is not None:
                claim.release()
            self._discard_staged(delivery)
            raise
        new_keys: list[str] = []
        is_placed = True
        try:
            self._place(delivery, new_keys)
        except (StoreError, BlobMissing) as exc:
            if not (may_wait and isinstance(exc, StoreDown)):
                held.record = dataclasses.replace(held.record, new_keys=tuple(new_keys))
                self._take_back(held, claim)
                raise
            log.warning("outbox: %s waits for the store: %s", held.name, exc)
            is_placed = False
        held.record = dataclasses.replace(held.record, new_keys=tuple(new_keys))
        return held, claim, is_placed

    def _claim(self, delivery: Delivery) -> Claim:
        return self._folder.claim(tuple(placement.key for placement in delivery.placements))

    def _place(self, delivery: Delivery, new_keys: list[str]) -> None:
        """Make all visible; the keys that were not there before are added to ``new_keys``."""
        for placement in delivery.placements:
            sealed = SealedBlob(staged=placement.staged, size=placement.size)
            if self._store.place(sealed, sha256=placement.sha256, key=placement.key):
                new_keys.append(placement.key)

    def _take_back(self, held: HeldRecord, claim: Claim) -> None:
        """The core or the store said no: nothing of it stays, except what others rely on."""
        claim.release()
        record = held.record
        try:
            self._discard_staged(record.delivery)
        except (StoreError, OSError) as exc:  # the record must go, or it would be delivered after all
            log.warning("outbox: staged bytes of %s stay for the next sweep: %s", held.name, exc)
        for key in record.new_keys:
            try:
                self._folder.take_back(key, since_ns=record.created_ns, delete=self._store.delete)
            except StoreError as exc:
                log.warning("outbox: %s stays in the store until 'registry gc': %s", key, exc)
        held.remove()

    def _discard_staged(self, delivery: Delivery) -> None:
        for placement in delivery.placements:
            self._store.discard_staged(placement.staged)

    def _done(self, held: HeldRecord, claim: Claim) -> None:
        record = held.record
        if len(record.new_keys) < len(record.delivery.placements):
            claim.relied()
        held.remove()
        claim.release()

    def _put_off(self, held: HeldRecord, claim: Claim) -> None:
        if held.record.new_keys:
            try:
                held.rewrite(held.record)
            except StoreError as exc:  # the delivery itself is on disk; only a refusal could take back less
                log.warning("outbox: %s keeps its first form: %s", held.name, exc)
        held.release()
        claim.release()

    async def _await_result(self, ticket_id: str) -> Committed | Pending:
        until = time.monotonic() + max(0.0, self._patience_s - self._health.down_s)
        while time.monotonic() < until:
            await asyncio.sleep(RESULT_LOOK_S)
            match self.status(ticket_id):
                case Committed() as committed:
                    return committed
                case Refused(status=status, message=message):
                    raise CoreRefused(status, message)
                case Pending() | None:
                    continue
        return _pending(ticket_id)

    async def _deliver_all(self) -> bool:
        """Whether all that can be delivered is (False: another process is at it)."""
        with self._folder.only_deliverer() as is_ours:
            if not is_ours:
                return not self._folder.names()
            for name in await asyncio.to_thread(self._folder.names):
                if self._not_before.get(name, 0.0) > time.monotonic():
                    continue
                held = await asyncio.to_thread(self._folder.hold, name)
                if held is None:
                    continue
                try:
                    if not await self._deliver(held):
                        return True
                except (OSError, StoreError) as exc:  # one that cannot be settled must not keep the others
                    self._retry_later(held, exc)
                finally:
                    held.release()
            return True

    async def _deliver(self, held: HeldRecord) -> bool:
        """Deliver one; False when the core is down, so that the others need not be tried."""
        record = held.record
        claim = await asyncio.to_thread(self._claim, record.delivery)
        try:
            record = await asyncio.to_thread(self._place_again, held)
            images = await self._core.tell(record.delivery.commit, request_id=record.request_id)
        except CoreDown:
            return False
        except BlobMissing:
            await asyncio.to_thread(self._lost, held)
        except CoreRefused as exc:
            log.warning("outbox: the core refused %s: %d %s", held.name, exc.status, exc.message)
            await asyncio.to_thread(self._refused, held, claim, exc)
        except (UpstreamError, StoreError) as exc:
            self._retry_later(held, exc)
        else:
            await asyncio.to_thread(self._delivered, held, claim, images)
            self._not_before.pop(held.name, None)
        finally:
            claim.release()
        return True

    def _retry_later(self, held: HeldRecord, exc: Exception) -> None:
        log.warning("outbox: %s stays for %d s: %s", held.name, RETRY_S, exc)
        self._not_before[held.name] = time.monotonic() + RETRY_S

    def _place_again(self, held: HeldRecord) -> Record:
        """Before each telling: whatever crashed or cleaned up, the key is there when the core lists it."""
        new_keys: list[str] = []
        self._place(held.record.delivery, new_keys)
        if set(new_keys) - set(held.record.new_keys):
            known = tuple({*held.record.new_keys, *new_keys})
            held.rewrite(dataclasses.replace(held.record, new_keys=known))
        return held.record

    def _delivered(self, held: HeldRecord, claim: Claim, images: tuple[CommittedReference, ...]) -> None:
        ticket_id = held.record.delivery.ticket_id
        self._folder.put_result(
            ticket_id, {"state": "committed", "images": [dataclasses.asdict(image) for image in images]}
        )
        self._done(held, claim)
        log.info("outbox: delivered %s (%d images)", held.name, len(images))

    def _refused(self, held: HeldRecord, claim: Claim, exc: CoreRefused) -> None:
        self._folder.put_result(
            held.record.delivery.ticket_id, {"state": "refused", "status": exc.status, "message": exc.message}
        )
        self._take_back(held, claim)

    def _lost(self, held: HeldRecord) -> None:
        message = "The bytes of this upload are gone. Upload the file again."
        self._folder.put_result(
            held.record.delivery.ticket_id, {"state": "refused", "status": 500, "message": message}
        )
        self._folder.set_aside(held.name, "names bytes that the store does not have")


def _pending(ticket_id: str) -> Pending:
    return Pending(status_path=UPLOAD_STATUS_PREFIX + ticket_id)


def _outcome(result: dict[str, Any]) -> Outcome | None:
    match result:
        case {"state": "committed", "images": [*images]}:
            return Committed(images=tuple(CommittedReference(**image) for image in images))
        case {"state": "refused", "status": int(status), "message": str(message)}:
            return Refused(status=status, message=message)
        case _:
            return None
