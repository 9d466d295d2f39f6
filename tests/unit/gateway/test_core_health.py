"""Owns the judgement: what makes a core down, and what makes it merely busy."""

import asyncio

import pytest

from gateway.core_health import PROBE_EVERY_S, SILENCE_S, CoreHealth, CoreState, Evidence


def test_a_core_that_answers_its_probes_is_up() -> None:
    evidence = Evidence(last_heard=0.0)
    for step in range(100):
        now = step * PROBE_EVERY_S
        evidence.asked(now)
        evidence.probe_good(now + 0.01)
        assert not evidence.tells_down(now + 0.02)


def test_a_core_that_stops_is_down_within_a_second_wherever_between_two_probes_it_stops() -> None:
    for stopped in (0.001, 0.1, 0.249):
        evidence = Evidence(last_heard=0.0)
        evidence.probe_good(0.0)
        evidence.asked(PROBE_EVERY_S)
        assert not evidence.tells_down(SILENCE_S - 0.01)
        assert evidence.tells_down(stopped + 1.0)
        assert evidence.tells_down(SILENCE_S)


def test_a_busy_core_that_answers_others_is_not_down() -> None:
    evidence = Evidence(last_heard=0.0)
    evidence.asked(0.25)
    for tenth in range(100):
        evidence.heard(tenth / 10)
        assert not evidence.tells_down(tenth / 10 + 0.09)
    assert evidence.tells_down(10.0 + SILENCE_S)


def test_silence_counts_only_while_somebody_asks() -> None:
    evidence = Evidence(last_heard=0.0)
    assert not evidence.tells_down(3600.0)
    evidence.asked(3600.0)
    assert not evidence.tells_down(3600.1), "the question needs time for an answer"
    assert evidence.tells_down(3600.0 + SILENCE_S)


def test_a_process_that_ended_is_down_at_once_until_a_good_probe() -> None:
    evidence = Evidence(last_heard=0.0)
    evidence.gone()
    assert evidence.tells_down(0.0)
    evidence.heard(0.1)
    assert evidence.tells_down(0.1), "a last word in a buffer does not make it alive"
    evidence.probe_good(0.2)
    assert not evidence.tells_down(0.2)


def test_a_core_that_says_it_is_ill_is_down_although_it_talks() -> None:
    evidence = Evidence(last_heard=0.0)
    evidence.asked(1.0)
    evidence.probe_ill(1.0)
    evidence.heard(1.5)
    assert not evidence.tells_down(1.0 + SILENCE_S - 0.01)
    evidence.heard(1.0 + SILENCE_S)
    assert evidence.tells_down(1.0 + SILENCE_S)
    evidence.probe_good(2.0)
    assert not evidence.tells_down(2.0)


def test_our_own_sleep_is_not_the_cores_silence() -> None:
    evidence = Evidence(last_heard=0.0)
    evidence.asked(0.25)
    evidence.slept(5.0)
    assert not evidence.tells_down(5.3)


class Script:
    """A probe that answers as the test says; silent while ``answer`` is None."""

    def __init__(self) -> None:
        self.answer: bool | OSError | None = None
        self.turn = asyncio.Event()

    async def __call__(self) -> bool:
        while self.answer is None:
            self.turn.clear()
            await self.turn.wait()
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def say(self, answer: bool | OSError | None) -> None:
        self.answer = answer
        self.turn.set()


async def running(story, *, is_own: bool = True, hold_s: float = 0.5) -> None:  # type: ignore[no-untyped-def]
    script = Script()
    health = CoreHealth(script, is_own=is_own, hold_s=hold_s, start_hold_s=30.0)
    task = asyncio.ensure_future(health.run())
    try:
        await story(health, script)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_core_that_starts_is_waited_for_longer_than_one_that_returns() -> None:
    async def story(health: CoreHealth, script: Script) -> None:
        assert health.starting
        assert not health.is_up
        assert health.hold_s > 20
        assert health.down.done()
        script.say(True)
        assert await health.wait_up(30.0)
        assert health.hold_s == 0.0
        assert not health.down.done()
        script.say(None)
        health.note_exit()
        assert health.state is CoreState.down
        assert health.down.done()
        assert 0 < health.hold_s <= 0.5
        assert not health.starting

    asyncio.run(running(story))


def test_what_was_put_off_is_done_before_requests_are_let_through() -> None:
    async def story(health: CoreHealth, script: Script) -> None:
        may_go = asyncio.Event()
        seen: list[CoreState] = []

        async def flush() -> None:
            seen.append(health.state)
            await may_go.wait()

        health.on_up(flush)
        script.say(True)
        while not seen:
            await asyncio.sleep(0)
        assert seen == [CoreState.opening]
        assert not health.is_up
        assert health.hold_s > 0, "requests wait for the flush"
        may_go.set()
        assert await health.wait_up(30.0)

    asyncio.run(running(story))


def test_a_refused_dial_is_down_at_once() -> None:
    async def story(health: CoreHealth, script: Script) -> None:
        script.say(True)
        assert await health.wait_up(30.0)
        script.say(None)
        health.note_refused()
        assert not health.is_up

    asyncio.run(running(story))


def test_a_probe_that_finds_nobody_is_down_and_the_next_good_one_up() -> None:
    async def story(health: CoreHealth, script: Script) -> None:
        script.say(True)
        assert await health.wait_up(30.0)
        script.say(ConnectionRefusedError())
        await health.down
        assert not health.is_up
        script.say(True)
        assert await health.wait_up(30.0)

    asyncio.run(running(story))


def test_waiting_no_time_is_asking() -> None:
    async def story(health: CoreHealth, script: Script) -> None:
        assert not await health.wait_up(0.0)

    asyncio.run(running(story))
