"""Owns the proof of whom the spool lets in while the core is away, and how much."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.contract import Commit, CommittedImage, Ticket, TicketQuestion, open_ticket
from gateway.errors import CoreDown
from gateway.maintenance import MaintenanceState, MaintenanceSwitch, parse_networks
from gateway.outbox_records import Delivery, OutboxFolder, Placement
from gateway.settings import Settings
from gateway.spool import Spool

SECRET = b"s" * 32
QUESTION = TicketQuestion(collection="alice/test", name="tool", authorization="Bearer t", declared_bytes=100)
TICKET = Ticket(kind="web", id="a" * 32, entity="alice", collection="test", user="alice", max_bytes=500)


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.at


def make_switch(data_dir: Path) -> MaintenanceSwitch:
    return MaintenanceSwitch(data_dir, look_every_s=0)


def spool_in(tmp_path: Path, clock: Clock | None = None, **limits: Any) -> Spool:
    settings = Settings.model_validate(
        {"server": {"data_dir": tmp_path}, "maintenance": {"spool": True, **limits}}
    )
    return Spool(settings, SECRET, make_switch(tmp_path), clock=clock or Clock(), epoch=lambda: 5000.0)


def stand_in(spool: Spool, question: TicketQuestion = QUESTION) -> Ticket:
    ticket, token = asyncio.run(spool.stand_in(question))
    assert open_ticket(SECRET, token, now=5000.0) == ticket
    return ticket


def test_whom_the_core_allowed_gets_a_ticket_that_the_core_can_look_at_again(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.remember(QUESTION, TICKET, "token:7")
    ticket = stand_in(spool)
    assert (ticket.kind, ticket.credential, ticket.user, ticket.max_bytes) == (
        "spooled",
        "token:7",
        "alice",
        500,
    )
    assert ticket.id != TICKET.id
    assert ticket.expires == 5000 + 259200


@pytest.mark.parametrize(
    "change",
    [
        {"authorization": "Bearer other"},
        {"collection": "alice/other"},
        {"cookie": "x"},
        {"csrf_token": "x"},
        {"collection": "", "image_id": "7"},
        {"collection": "no collection"},
    ],
)
def test_strangers_and_other_places_get_none(tmp_path: Path, change: dict[str, Any]) -> None:
    spool = spool_in(tmp_path)
    spool.remember(QUESTION, TICKET, "token:7")
    question = TicketQuestion(**{"collection": "alice/test", "authorization": "Bearer t"} | change)
    with pytest.raises(CoreDown):
        stand_in(spool, question)


def test_a_yes_is_forgotten_with_time_and_by_a_no(tmp_path: Path) -> None:
    clock = Clock()
    spool = spool_in(tmp_path, clock, spool_known_s=60)
    spool.remember(QUESTION, TICKET, "token:7")
    clock.at += 61
    with pytest.raises(CoreDown):
        stand_in(spool)
    spool.remember(QUESTION, TICKET, "token:7")
    spool.forget(QUESTION)
    with pytest.raises(CoreDown):
        stand_in(spool)


def test_what_waits_and_what_is_on_its_way_is_bounded(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, spool_uploads=3, spool_bytes=350)
    spool.remember(QUESTION, TICKET, "token:7")
    folder = OutboxFolder(tmp_path / "outbox", durable=False)
    folder.prepare()
    first = stand_in(spool)
    assert first.max_bytes == 350
    image = CommittedImage(sha256="0" * 64, size=100)
    placement = Placement(staged="s", size=100, sha256="0" * 64, key="k")
    delivery = Delivery(
        ticket_id=first.id, commit=Commit(ticket="t", images=(image,)), placements=(placement,)
    )
    folder.add(delivery, request_id="r").release()
    assert folder.waiting() == {first.id: 100}
    assert stand_in(spool).max_bytes == 250
    with pytest.raises(CoreDown, match="no more uploads can wait"):
        stand_in(spool, TicketQuestion(collection="alice/test", authorization="Bearer t", declared_bytes=151))
    assert stand_in(spool).max_bytes == 150
    with pytest.raises(CoreDown, match="holds 3 uploads of 300 bytes"):
        stand_in(spool)


def test_who_does_not_say_how_much_comes_gets_a_share_and_all_together_no_more_than_may_wait(
    tmp_path: Path,
) -> None:
    spool = spool_in(tmp_path, spool_bytes=400)
    spool.remember(QUESTION, TICKET, "token:7")
    chunked = TicketQuestion(collection="alice/test", authorization="Bearer t")
    granted = [stand_in(spool, chunked).max_bytes for _ in range(20)]
    assert granted[:3] == [100, 75, 56]
    assert sum(granted) <= 400


def test_an_upload_that_is_over_leaves_its_room_to_others(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, spool_uploads=1, spool_bytes=100)
    spool.remember(QUESTION, TICKET, "token:7")
    for _ in range(3):
        spool.settle(stand_in(spool))
    stand_in(spool)
    with pytest.raises(CoreDown, match="no more uploads can wait"):
        stand_in(spool)


def test_while_all_is_closed_the_core_is_not_asked_but_for_those_who_pass(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    switch = make_switch(tmp_path)
    assert not spool.stands_in_for("192.0.2.1")
    switch.turn_on(MaintenanceState(mode="full", allow=parse_networks(["192.0.2.9"])))
    assert spool.stands_in_for("192.0.2.1")
    assert not spool.stands_in_for("192.0.2.9")
    switch.turn_on(MaintenanceState(mode="read-only"))
    assert not spool.stands_in_for("192.0.2.1")
