"""Owns what the outbox promises: nothing lost, nothing told after a refusal, nothing trusted that cannot be read."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.contract import UPLOAD_STATUS_PREFIX, Commit, CommittedImage
from gateway.core_api import CommittedReference
from gateway.errors import BlobMissing, CoreDown, CoreRefused, StoreDown, StoreFull, UpstreamError
from gateway.outbox import Committed, Outbox, Pending, Refused
from gateway.outbox_records import Delivery, OutboxFolder, Placement
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


def test_a_commit_places_tells_and_leaves_no_record(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"))
    outcome = asyncio.run(box.commit())
    assert isinstance(outcome, Committed)
    assert outcome.images[0].ref == "a/b/c:v1"
    assert box.core.told == ["token1"]
    assert box.store.keys == {f"a/b/c1:sha256.{SHA}"}
    assert box.records == []


def test_a_refused_commit_takes_the_new_key_back(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"))
    box.core.answers = [CoreRefused(403, "no")]
    with pytest.raises(CoreRefused):
        asyncio.run(box.commit())
    assert box.store.keys == set()
    assert box.records == []


def test_a_refused_commit_leaves_a_key_that_was_there_before(tmp_path: Path) -> None:
    store = PlacingStore("s1")
    key = f"a/b/c:sha256.{SHA}"
    store.keys, store.stored = {key}, {SHA}
    box = Box(tmp_path, store)
    box.core.answers = [CoreRefused(403, "no")]
    with pytest.raises(CoreRefused):
        asyncio.run(box.commit(1, key))
    assert store.keys == {key}


def test_a_refused_commit_leaves_a_key_on_which_another_commit_has_relied_meanwhile(tmp_path: Path) -> None:
    store = PlacingStore("s1", "s2")
    key = f"a/b/c:sha256.{SHA}"
    box = Box(tmp_path, store)

    async def story() -> None:
        first_may_end = asyncio.Event()
        usual = box.core.tell

        async def tell(commit: Commit, *, request_id: str) -> tuple[CommittedReference, ...]:
            if commit.ticket == "token1":
                await first_may_end.wait()
                raise CoreRefused(409, "no")
            return await usual(commit, request_id=request_id)

        box.core.tell = tell  # type: ignore[method-assign]
        first = asyncio.ensure_future(box.commit(1, key))
        while key not in store.keys:
            await asyncio.sleep(0)
        assert isinstance(await box.commit(2, key), Committed)
        first_may_end.set()
        with pytest.raises(CoreRefused):
            await first

    asyncio.run(story())
    assert store.keys == {key}
    assert box.records == []


def test_a_commit_with_the_core_away_waits_and_is_delivered_once_when_it_is_back(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"), is_up=False)

    async def story() -> None:
        assert await box.commit() == Pending(status_path=UPLOAD_STATUS_PREFIX + "id1")
        assert isinstance(box.outbox.status("id1"), Pending)
        await box.health.come_up()
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token1"]
    assert isinstance(box.outbox.status("id1"), Committed)
    assert box.records == []


def test_deliveries_keep_their_order_and_stop_at_the_first_that_finds_the_core_down(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1", "s2", "s3"), is_up=False)

    async def story() -> None:
        for number in (1, 2, 3):
            await box.commit(number)
        box.core.answers = [None, CoreDown()]
        await box.outbox.flush()
        assert box.core.told == ["token1"]
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token1", "token2", "token3"]


def test_a_core_that_fails_over_one_delivery_gets_the_next_ones(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1", "s2"), is_up=False)

    async def story() -> None:
        await box.commit(1)
        await box.commit(2)
        box.core.answers = [UpstreamError()]
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token2"]
    assert isinstance(box.outbox.status("id1"), Pending)


def test_an_unheard_answer_is_asked_for_again_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"))
    box.core.answers = [CoreDown()]

    async def story() -> None:
        assert isinstance(await box.commit(), Pending)
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token1"]
    assert box.store.keys


def test_a_refusal_of_a_waiting_delivery_is_kept_for_who_asks(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"), is_up=False)

    async def story() -> None:
        await box.commit()
        box.core.answers = [CoreRefused(403, "Not yours.")]
        await box.outbox.flush()
        await box.outbox.flush()

    asyncio.run(story())
    assert box.outbox.status("id1") == Refused(status=403, message="Not yours.")
    assert box.store.keys == set()
    assert box.core.told == []


def test_a_commit_that_waits_gets_the_answer_of_the_returning_core(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"), is_up=False, patience_s=60)

    async def story() -> None:
        commit = asyncio.ensure_future(box.commit())
        while not box.records:
            await asyncio.sleep(0)
        while not box.core.told:
            await box.health.come_up()
            await asyncio.sleep(0)
        assert isinstance(await commit, Committed)

    asyncio.run(story())


def test_the_caller_may_go_and_the_commit_still_happens(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"))

    async def story() -> None:
        commit = asyncio.ensure_future(box.commit())
        await asyncio.sleep(0)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        await box.outbox.aclose()

    asyncio.run(story())
    assert box.core.told == ["token1"]
    assert box.records == []


@pytest.mark.parametrize("failure", [StoreFull(), StoreDown()])
def test_a_store_that_fails_leaves_nothing_of_the_commit(
    tmp_path: Path, failure: StoreDown | StoreFull
) -> None:
    store = PlacingStore("s1", "s2")
    box = Box(tmp_path, store)
    two = Delivery(
        ticket_id="id",
        commit=Commit(ticket="t"),
        placements=(*delivery(1).placements, *delivery(2).placements),
    )
    store.fails = [None, failure]

    async def story() -> None:
        with pytest.raises(type(failure)):
            await box.outbox.commit(two, request_id="r")

    asyncio.run(story())
    assert store.keys == set()
    assert store.staged == set()
    assert box.records == []
    assert box.core.told == []


def test_a_crash_before_placing_is_finished_at_the_next_start(tmp_path: Path) -> None:
    store = PlacingStore("s1")
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    folder.add(delivery(), request_id="r").release()  # …and the power fails

    box = Box(tmp_path, store, is_up=False)
    assert store.keys == {f"a/b/c1:sha256.{SHA}"}
    assert store.staged == set(), "a sweep of the store now finds nothing to take away"
    asyncio.run(box.outbox.flush())
    assert box.core.told == ["token1"]


def test_a_crash_between_placing_and_telling_is_told_at_the_next_start(tmp_path: Path) -> None:
    store = PlacingStore("s1")
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    store.place(SealedBlob(staged="s1", size=3), sha256=SHA, key=f"a/b/c1:sha256.{SHA}")
    folder.add(delivery(), request_id="r").release()

    box = Box(tmp_path, store, is_up=False)
    asyncio.run(box.outbox.flush())
    assert box.core.told == ["token1"]
    assert box.records == []


def test_a_refusal_after_a_crash_takes_back_what_the_new_start_placed(tmp_path: Path) -> None:
    store = PlacingStore("s1")
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    folder.add(delivery(), request_id="r").release()
    box = Box(tmp_path, store, is_up=False)
    box.core.answers = [CoreRefused(404, "gone")]
    asyncio.run(box.outbox.flush())
    assert store.keys == set()


def test_a_crash_after_telling_tells_again_and_the_core_knows_the_ticket(tmp_path: Path) -> None:
    store = PlacingStore("s1")
    box = Box(tmp_path, store, is_up=False)
    asyncio.run(box.commit())
    usual = box.outbox._delivered

    def die(*_: object) -> None:
        raise Died

    box.outbox._delivered = die  # type: ignore[method-assign, assignment]
    with pytest.raises(Died):
        asyncio.run(box.outbox.flush())
    box.outbox._delivered = usual  # type: ignore[method-assign]
    again = Box(tmp_path, store, is_up=False)
    asyncio.run(again.outbox.flush())
    assert box.core.told == again.core.told == ["token1"]
    assert again.records == []


def test_bytes_that_are_gone_are_said_to_be_lost_and_the_record_is_kept_for_a_person(tmp_path: Path) -> None:
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    folder.add(delivery(), request_id="r").release()
    box = Box(tmp_path, PlacingStore())
    assert box.records == []
    assert len(names(tmp_path / "broken")) == 1
    outcome = box.outbox.status("id1")
    assert isinstance(outcome, Refused)
    assert outcome.status == 500


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format":1}', b'{"format":9,"delivery":{}}', b"\xff\x00"]
)
def test_a_record_that_cannot_be_read_is_moved_aside_and_the_others_are_delivered(
    tmp_path: Path, content: bytes
) -> None:
    first = Box(tmp_path, PlacingStore("s1"), is_up=False)
    asyncio.run(first.commit())
    (tmp_path / "pending" / f"{0:020}-x.json").write_bytes(content)
    box = Box(tmp_path, first.store, is_up=False)
    asyncio.run(box.outbox.flush())
    assert box.core.told == ["token1"]
    assert names(tmp_path / "broken") == [f"{0:020}-x.json"]


def test_a_half_written_record_was_never_promised_and_goes(tmp_path: Path) -> None:
    Box(tmp_path, PlacingStore())
    fresh = tmp_path / "pending" / ".1234.new"
    fresh.write_bytes(b'{"form')
    Box(tmp_path, PlacingStore())
    assert fresh.exists(), "somebody may be writing it right now"
    os.utime(fresh, (0, 0))
    Box(tmp_path, PlacingStore())
    assert not fresh.exists()


def test_a_record_in_the_hands_of_another_process_is_left_alone(tmp_path: Path) -> None:
    store = PlacingStore("s1")
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    held = folder.add(delivery(), request_id="r")
    box = Box(tmp_path, store, is_up=False)
    asyncio.run(box.outbox.flush())
    assert box.core.told == []
    held.release()
    asyncio.run(box.outbox.flush())
    assert box.core.told == ["token1"]


def test_two_processes_deliver_each_record_once(tmp_path: Path) -> None:
    store = PlacingStore("s1", "s2", "s3")
    one = Box(tmp_path, store, is_up=False)
    other = Box(tmp_path, store, is_up=False)

    async def story() -> None:
        for number in (1, 2, 3):
            await one.commit(number)
        await asyncio.gather(one.outbox.flush(), other.outbox.flush())

    asyncio.run(story())
    assert sorted(one.core.told + other.core.told) == ["token1", "token2", "token3"]


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    root = tmp_path / "outbox"
    box = Box(root, PlacingStore("s1"), is_up=False)
    asyncio.run(box.commit())
    (record,) = (root / "pending").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    assert (root / "pending").stat().st_mode & 0o777 == 0o700
    assert json.loads(record.read_bytes())["delivery"]["ticket_id"] == "id1"


def test_nothing_is_known_of_an_upload_that_never_was(tmp_path: Path) -> None:
    assert Box(tmp_path, PlacingStore()).outbox.status("../../etc/passwd") is None


def test_results_are_forgotten_after_a_day(tmp_path: Path) -> None:
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    folder.put_result("a", {"state": "refused", "status": 403, "message": "no"})
    written = next((tmp_path / "results").iterdir()).stat().st_mtime
    folder.drop_old_results(written + 86399)
    assert folder.result("a") is not None
    folder.drop_old_results(written + 86401)
    assert folder.result("a") is None
