"""Owns the outbox after a crash, and with damaged or foreign files: finished, left alone, or moved aside."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from gateway.errors import CoreRefused, StoreFull
from gateway.outbox import Refused
from gateway.outbox_records import OutboxFolder
from gateway.store.base import SealedBlob
from tests.support.outbox import SHA, Box, Died, PlacingStore, delivery, names


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


def test_what_the_store_does_not_take_at_the_next_start_must_not_be_swept(tmp_path: Path) -> None:
    store = PlacingStore("s1", "s2")
    folder = OutboxFolder(tmp_path, durable=False)
    folder.prepare()
    folder.add(delivery(1), request_id="r").release()
    folder.add(delivery(2), request_id="r").release()
    store.fails = [StoreFull(), None, StoreFull()]  # …and the disk is full

    box = Box(tmp_path, store, is_up=False)
    assert store.staged == {"s1"}
    assert not box.outbox.recover(), (
        "a sweep of the store would take the bytes of an upload that was promised"
    )
    assert box.outbox.recover()
    asyncio.run(box.outbox.flush())
    assert box.core.told == ["token1", "token2"]


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
    folder.sweep(written + 86399)
    assert folder.result("a") is not None
    folder.sweep(written + 86401)
    assert folder.result("a") is None
