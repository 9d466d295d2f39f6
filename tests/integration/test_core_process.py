"""Owns the core as a process: started, watched, stopped, killed, and told what it missed."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.contract import load_secret
from gateway.control import Control, ask
from gateway.core_control import HELD, core_actions, keep_core_name, probes_well
from gateway.core_health import CoreHealth, CoreState, probe_of
from gateway.supervise import Child, Program

FAKE = "tests.support.fake_core"
GENEROUS_S = 30.0


class House:
    """A supervised fake core and its health."""

    def __init__(self, root: Path) -> None:
        self.health = CoreHealth(
            probe_of(f"unix:{root}/run/core.sock", load_secret(root / "secrets" / "internal.key")),
            is_own=True,
            hold_s=0.6,
            start_hold_s=10.0,
        )
        program = Program(
            name="core", module=FAKE, arguments=("serve", "--data-dir", str(root)), environment={}
        )
        self.child = Child(
            program, on_start=self.health.note_started, on_exit=self.health.note_exit, stop_s=5.0
        )


def living_in(root: Path, story: Callable[[House], Awaitable[None]]) -> None:
    async def live() -> None:
        house = House(root)
        jobs = [asyncio.ensure_future(house.health.run()), asyncio.ensure_future(house.child.run())]
        try:
            assert await house.health.wait_up(GENEROUS_S)
            await story(house)
        finally:
            await house.child.stop()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    asyncio.run(live())


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_killed_core_is_down_at_once_started_again_and_up_again(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        first = house.child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        began = time.monotonic()
        await house.health.down
        assert time.monotonic() - began < 1.0
        assert await house.health.wait_up(GENEROUS_S)
        assert house.child.pid not in (None, first)

    living_in(tmp_path, story)


def test_a_core_that_is_stopped_is_down_within_a_second_and_back_by_itself(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        pid = house.child.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            async with asyncio.timeout(GENEROUS_S):
                await asyncio.shield(house.health.down)
            assert time.monotonic() - began < 1.0
            assert house.health.state is CoreState.down
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await house.health.wait_up(GENEROUS_S)
        assert house.child.pid == pid

    living_in(tmp_path, story)


def test_a_stopped_core_that_another_connection_hears_from_is_not_called_down(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        pid = house.child.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(30):
                house.health.note_alive()
                await asyncio.sleep(0.05)
                assert house.health.is_up
        finally:
            os.kill(pid, signal.SIGCONT)

    living_in(tmp_path, story)


def test_stop_ends_the_core_in_order(tmp_path: Path) -> None:
    pids: list[int] = []

    async def story(house: House) -> None:
        assert house.child.pid is not None
        pids.append(house.child.pid)
        await house.child.stop()

    living_in(tmp_path, story)
    assert not is_alive(pids[0])


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(60)"

    async def story() -> int | None:
        started = asyncio.Event()
        child = Child(
            Program(name="deaf", module="tests.support.run_code", arguments=(code,), environment={}),
            on_start=started.set,
        )
        job = asyncio.ensure_future(child.run())
        await started.wait()
        pid = child.pid
        await child.stop(within_s=0.3)
        await job
        return pid

    pid = asyncio.run(story())
    assert pid is not None
    assert not is_alive(pid)


def test_a_child_that_cannot_live_is_started_ever_more_slowly(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    code = f"open({str(marks)!r}, 'a').write('x')"

    async def story() -> None:
        child = Child(
            Program(name="mayfly", module="tests.support.run_code", arguments=(code,), environment={})
        )
        job = asyncio.ensure_future(child.run())
        async with asyncio.timeout(GENEROUS_S):
            while not marks.exists() or len(marks.read_text()) < 3:
                await asyncio.sleep(0.02)
        await child.stop()
        await job

    began = time.monotonic()
    asyncio.run(story())
    assert time.monotonic() - began > 0.25, "the second restart waits"


def test_the_core_does_not_outlive_a_gateway_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from gateway.supervise import Child, Program\n"
        f"p = Program(name='core', module={FAKE!r}, arguments=('serve','--data-dir',{str(tmp_path)!r}), environment={{}})\n"
        "c = Child(p, on_start=lambda: print(c.pid, flush=True))\n"
        "asyncio.run(c.run())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + GENEROUS_S
        while not (tmp_path / "run" / "core.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(pid)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()


@pytest.mark.parametrize("moment", ["at once", "in the middle of a call"])
def test_a_child_is_never_left_behind_by_a_cancelled_supervisor(tmp_path: Path, moment: str) -> None:
    async def story() -> int | None:
        started = asyncio.Event()
        child = Child(
            Program(
                name="core", module=FAKE, arguments=("serve", "--data-dir", str(tmp_path)), environment={}
            ),
            on_start=started.set,
        )
        job = asyncio.ensure_future(child.run())
        if moment != "at once":
            await started.wait()
        else:
            await asyncio.sleep(0)
        pid = child.pid
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        return pid

    pid = asyncio.run(story())
    assert pid is None or not is_alive(pid)


def test_the_fake_core_notes_what_it_is_told(tmp_path: Path) -> None:
    async def story(_: House) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "run" / "core.sock"))
        body = json.dumps({"ticket": "t", "images": []}).encode()
        writer.write(
            b"POST /internal/commits HTTP/1.1\r\nhost: core\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()

    living_in(tmp_path, story)
    assert json.loads((tmp_path / "told.jsonl").read_text())["ticket"] == "t"


def test_a_core_is_replaced_while_requests_go_on(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        socket_path = tmp_path / "run" / "core.sock"
        probe = probe_of(f"unix:{socket_path}", b"s")
        first, failures, over = house.child.pid, 0, asyncio.Event()

        async def hammer() -> None:
            nonlocal failures
            while not over.is_set():
                failures += not await probes_well(probe)
                await asyncio.sleep(0.01)

        job = asyncio.ensure_future(hammer())
        control = asyncio.ensure_future(
            Control(tmp_path / "control.sock", core_actions(house.child, socket_path, probe)).run()
        )
        await asyncio.sleep(0.05)
        await asyncio.to_thread(list, ask(tmp_path / "control.sock", "core-restart"))
        over.set()
        await job
        control.cancel()
        assert failures == 0
        assert house.child.pid not in (None, first)
        assert house.health.is_up

    living_in(tmp_path, story)


def test_a_core_that_is_held_starts_again_when_the_holder_is_gone(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        socket_path = tmp_path / "run" / "core.sock"
        probe = probe_of(f"unix:{socket_path}", b"s")
        control = asyncio.ensure_future(
            Control(tmp_path / "control.sock", core_actions(house.child, socket_path, probe)).run()
        )
        await asyncio.sleep(0.05)
        lines = ask(tmp_path / "control.sock", "core-hold")
        assert await asyncio.to_thread(next, lines) == HELD
        assert house.child.pid is None
        assert not house.health.is_up
        lines.close()
        assert await house.health.wait_up(GENEROUS_S)
        control.cancel()

    living_in(tmp_path, story)


def test_a_core_whose_name_was_taken_by_somebody_who_died_is_started_again(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        path = tmp_path / "run" / "core.sock"
        first = house.child.pid
        probe = probe_of(f"unix:{path}", b"s")
        keeper = asyncio.ensure_future(keep_core_name(house.child, path, probe, look_every_s=0.05))
        await asyncio.sleep(0.3)
        thief = socket.socket(socket.AF_UNIX)
        thief.bind(str(tmp_path / "thief"))
        (tmp_path / "thief").replace(path)
        thief.close()
        async with asyncio.timeout(GENEROUS_S):
            await asyncio.shield(house.health.down)
        assert await house.health.wait_up(GENEROUS_S)
        assert house.child.pid not in (None, first)
        keeper.cancel()

    living_in(tmp_path, story)
