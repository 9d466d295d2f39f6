"""Owns the two calls: how they are signed, and what each answer of the core becomes."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.contract import (
    CALL_SIGNATURE_HEADER,
    CALL_TIME_HEADER,
    COMMITS_PATH,
    TICKETS_PATH,
    Commit,
    CommittedImage,
    Ticket,
    TicketQuestion,
    call_is_signed,
    seal,
)
from gateway.core_api import CommittedReference, CoreApi
from gateway.core_health import CoreHealth
from gateway.errors import CoreDown, CoreRefused, NotFound, UpstreamError, UpstreamProtocol
from gateway.http.head import Field, Fields
from gateway.settings import Settings

SECRET = b"s" * 32
NOW = 1_800_000_000.0
COMMIT = Commit(ticket="t", images=(CommittedImage(sha256="ab" * 32, size=3),))
TICKET = Ticket(kind="web", id="id", entity="alice", collection="test")


class ScriptedPool:
    """Gives one answer and remembers the call."""

    def __init__(self, status: int = 200, value: object = None, fields: tuple[Field, ...] = ()) -> None:
        self.status = status
        self.content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.fields = fields
        self.calls: list[tuple[str, str, Fields, bytes]] = []
        self.on_call: Callable[[], None] = lambda: None
        self.is_silent = False

    async def call(
        self, method: str, target: str, fields: tuple[Field, ...], body: bytes, *, timeout_s: float
    ) -> tuple[int, Fields, bytes]:
        self.calls.append((method, target, Fields(fields), body))
        self.on_call()
        if self.is_silent:
            await asyncio.Event().wait()
        return self.status, Fields(self.fields), self.content


async def _well() -> bool:
    return True


def run[T](pool: ScriptedPool, act: Callable[[CoreApi, CoreHealth], Any], *, is_up: bool = True) -> Any:
    async def story() -> Any:
        health = CoreHealth(_well, is_own=False, hold_s=0.0, start_hold_s=0.0)
        job = asyncio.ensure_future(health.run())
        if is_up:
            assert await health.wait_up(30.0)
        else:
            job.cancel()
        try:
            return await act(CoreApi(pool, SECRET, health, Settings().core, clock=lambda: NOW), health)
        finally:
            job.cancel()

    return asyncio.run(story())


def ask(pool: ScriptedPool, *, is_up: bool = True) -> tuple[Ticket, str]:
    result: tuple[Ticket, str] = run(
        pool, lambda api, _: api.ask(TicketQuestion(collection="alice/test"), request_id="r"), is_up=is_up
    )
    return result


def tell(pool: ScriptedPool, *, is_up: bool = True) -> tuple[CommittedReference, ...]:
    result: tuple[CommittedReference, ...] = run(
        pool, lambda api, _: api.tell(COMMIT, request_id="r"), is_up=is_up
    )
    return result


def test_a_ticket_is_opened_and_its_token_kept() -> None:
    token = seal(SECRET, TICKET)
    pool = ScriptedPool(200, {"ticket": token})
    assert ask(pool) == (TICKET, token)
    method, target, fields, body = pool.calls[0]
    assert (method, target) == ("POST", TICKETS_PATH)
    assert json.loads(body)["collection"] == "alice/test"
    assert fields.get("x-request-id") == "r"


def test_calls_are_signed() -> None:
    pool = ScriptedPool(200, {"ticket": seal(SECRET, TICKET)})
    ask(pool)
    method, target, fields, body = pool.calls[0]
    assert call_is_signed(
        SECRET,
        method,
        target,
        body,
        stamp=fields.get(CALL_TIME_HEADER),
        signature=fields.get(CALL_SIGNATURE_HEADER),
        now=NOW,
    )


def test_a_refusal_is_passed_on_with_its_status_sentence_and_headers() -> None:
    challenge = ("www-authenticate", 'Bearer realm="x"')
    pool = ScriptedPool(401, {"error": {"code": 401, "message": "Who?"}}, (challenge, ("server", "x")))
    with pytest.raises(CoreRefused) as caught:
        ask(pool)
    assert (caught.value.status, caught.value.message) == (401, "Who?")
    assert caught.value.headers == (challenge,)


def test_a_core_that_is_down_is_not_asked() -> None:
    pool = ScriptedPool()
    with pytest.raises(CoreDown):
        ask(pool, is_up=False)
    assert pool.calls == []


def test_a_call_ends_when_the_core_goes_down_meanwhile() -> None:
    pool = ScriptedPool()
    pool.is_silent = True

    async def act(api: CoreApi, health: CoreHealth) -> None:
        pool.on_call = health.note_exit
        await api.ask(TicketQuestion(), request_id="r")

    with pytest.raises(CoreDown):
        run(pool, act)


def test_a_question_that_met_a_dying_core_is_asked_again() -> None:
    pool = ScriptedPool(200, {"ticket": seal(SECRET, TICKET)})
    faults: list[Exception] = [UpstreamProtocol(detail="the upstream closed without an answer")]

    def fail_once() -> None:
        if faults:
            raise faults.pop()

    pool.on_call = fail_once
    assert ask(pool)[0] == TICKET
    assert len(pool.calls) == 2


@pytest.mark.parametrize(
    "value",
    [b"<html>", {"ticket": 3}, {}, [], {"ticket": "forged.token"}, {"ticket": seal(b"other", TICKET)}],
)
def test_an_answer_without_a_good_ticket_is_the_cores_fault(value: object) -> None:
    with pytest.raises(UpstreamProtocol):
        ask(ScriptedPool(200, value))


@pytest.mark.parametrize(
    ("status", "value"), [(500, {"error": {"code": 500, "message": "x"}}), (404, b"nope")]
)
def test_a_failing_core_has_refused_nothing(status: int, value: object) -> None:
    with pytest.raises(UpstreamProtocol):
        tell(ScriptedPool(status, value))


def test_a_commit_gives_the_references() -> None:
    image = {"ref": "alice/test/c:v1", "sha256": "ab" * 32, "size": 3, "url": "/x", "new": "field"}
    pool = ScriptedPool(200, {"images": [image]})
    assert tell(pool) == (CommittedReference(ref="alice/test/c:v1", sha256="ab" * 32, size=3, url="/x"),)
    assert pool.calls[0][1] == COMMITS_PATH
    assert json.loads(pool.calls[0][3])["images"][0]["size"] == 3


def test_a_commit_may_be_told_while_the_core_is_just_opening() -> None:
    assert tell(ScriptedPool(200, {"images": []}), is_up=False) == ()


@pytest.mark.parametrize(
    ("status", "message"), [(401, "x"), (408, "x"), (425, "x"), (429, "x"), (404, NotFound.default_message)]
)
def test_a_refusal_that_is_not_about_the_commit_never_loses_it(status: int, message: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        tell(ScriptedPool(status, {"error": {"code": status, "message": message}}))
    assert not isinstance(caught.value, CoreRefused)


def test_a_refused_commit_is_refused() -> None:
    with pytest.raises(CoreRefused):
        tell(ScriptedPool(409, {"error": {"code": 409, "message": "taken"}}))
