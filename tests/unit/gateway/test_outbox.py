"""Owns what the outbox promises: nothing lost, nothing told after a refusal."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from gateway.contract import UPLOAD_STATUS_PREFIX, Commit
from gateway.core_api import CommittedReference
from gateway.errors import CoreDown, CoreRefused, StoreDown, StoreFull, UpstreamError
from gateway.outbox import Committed, Pending, Refused
from gateway.outbox_records import Delivery, HeldRecord
from tests.support.outbox import SHA, Box, PlacingStore, delivery


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


def test_an_upload_need_not_be_sent_again_because_the_store_is_away_for_a_moment(tmp_path: Path) -> None:
    store = PlacingStore("s1", "s2")
    box = Box(tmp_path, store)
    two = Delivery(
        ticket_id="id",
        commit=Commit(ticket="t"),
        placements=(*delivery(1).placements, *delivery(2).placements),
    )
    store.fails = [None, StoreDown(), StoreDown()]

    async def story() -> None:
        outcome = await box.outbox.commit(two, request_id="r", may_wait_for_store=True)
        assert isinstance(outcome, Pending)
        assert store.staged == {"s2"}
        assert len(box.records) == 1
        assert not box.outbox.recover(), "a sweep would take what was promised"

    asyncio.run(story())
    again = Box(tmp_path, store)
    asyncio.run(again.outbox.flush())
    assert again.core.told == ["t"]
    assert len(store.keys) == 2
    assert store.staged == set()
    assert isinstance(again.outbox.status("id"), Committed)


def test_staged_bytes_that_cannot_be_removed_do_not_keep_a_refused_delivery(tmp_path: Path) -> None:
    class Stuck(PlacingStore):
        def discard_staged(self, staged: str) -> None:
            raise StoreDown

    store = Stuck("s1")
    box = Box(tmp_path, store)
    store.fails = [StoreFull()]

    async def story() -> None:
        with pytest.raises(StoreFull):
            await box.commit()

    asyncio.run(story())
    assert box.records == []


def test_an_outbox_that_cannot_be_written_leaves_no_staged_bytes(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"))
    shutil.rmtree(tmp_path / "pending")
    with pytest.raises(StoreDown):
        asyncio.run(box.commit())
    assert box.store.staged == set()
    assert box.core.told == []


def test_a_claim_that_cannot_be_made_leaves_no_staged_bytes(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1"))
    shutil.rmtree(tmp_path / "claims")
    with pytest.raises(StoreDown):
        asyncio.run(box.commit())
    assert box.store.staged == set()
    assert box.records == []


def test_a_record_is_whole_although_the_disk_takes_it_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = os.write
    monkeypatch.setattr(os, "write", lambda file, data: usual(file, data[:7]))
    box = Box(tmp_path, PlacingStore("s1"), is_up=False)

    async def story() -> None:
        await box.commit()
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token1"]


def test_a_full_disk_does_not_lock_a_delivery_away_that_waits_for_the_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path, PlacingStore("s1"), is_up=False)

    def full(*_: object) -> None:
        raise StoreFull

    async def story() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(HeldRecord, "rewrite", full)
            assert isinstance(await box.commit(), Pending)
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token1"]
    assert box.records == []


def test_a_result_that_cannot_be_kept_does_not_keep_the_next_deliveries(tmp_path: Path) -> None:
    box = Box(tmp_path, PlacingStore("s1", "s2"), is_up=False)

    async def story() -> None:
        await box.commit(1)
        await box.commit(2)
        shutil.rmtree(tmp_path / "results")
        await box.outbox.flush()

    asyncio.run(story())
    assert box.core.told == ["token1", "token2"]
    assert len(box.records) == 2, "told again later: the core knows the tickets"
