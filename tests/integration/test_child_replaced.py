"""Owns the replacement of a child beside what else may befall it: its end, its hold, another program."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from gateway.supervise import Child, Program
from tests.support import processes

GENEROUS_S = 30.0


async def _until(is_so: Callable[[], bool]) -> None:
    await asyncio.to_thread(processes.until, is_so, timeout_s=GENEROUS_S)


class Told:
    """A child that writes its pid and a word of its environment into a file of that name, and waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "waiting.py").write_text(
            "import os, pathlib, time\n"
            f"pathlib.Path({str(folder)!r}, os.environ['WORD'] + '-' + str(os.getpid())).touch()\n"
            "time.sleep(600)\n"
        )
        environment = {"WORD": "first", "PYTHONPATH": ":".join((str(folder), *sys.path))}
        self.program = Program(name="child", module="waiting", environment=environment)
        self.child = Child(self.program)

    def pids(self, word: str) -> list[int]:
        return [int(path.name.removeprefix(f"{word}-")) for path in self.folder.glob(f"{word}-*")]

    async def is_there(self, word: str) -> bool:
        """As a core that answers."""
        return bool(self.pids(word))

    def next_one(self, word: str) -> None:
        self.child.take(replace(self.program, environment={**self.program.environment, "WORD": word}))


def living_in(folder: Path, story: Callable[[Told], Awaitable[None]]) -> None:
    async def live() -> None:
        told = Told(folder)
        job = asyncio.ensure_future(told.child.run())
        try:
            await _until(lambda: bool(told.pids("first")))
            await story(told)
        finally:
            await told.child.stop()
            await job

    asyncio.run(live())


def test_the_next_one_is_another_program(tmp_path: Path) -> None:
    async def story(told: Told) -> None:
        (first,) = told.pids("first")
        told.next_one("second")
        assert await told.child.replace(lambda: told.is_there("second"), within_s=GENEROUS_S)
        assert told.child.pid == told.pids("second")[0]
        assert not processes.is_alive(first)

    living_in(tmp_path, story)


def test_an_end_in_the_middle_leaves_nobody(tmp_path: Path) -> None:
    async def story(told: Told) -> None:
        told.next_one("second")

        async def never() -> bool:
            return False

        task = asyncio.ensure_future(told.child.replace(never, within_s=GENEROUS_S))
        await _until(lambda: bool(told.pids("second")))
        await told.child.stop()
        assert not await task
        for pid in (*told.pids("first"), *told.pids("second")):
            assert not processes.is_alive(pid)

    living_in(tmp_path, story)


def test_who_is_held_down_is_not_replaced(tmp_path: Path) -> None:
    async def story(told: Told) -> None:
        await told.child.hold()
        told.next_one("second")
        assert await told.child.replace(lambda: told.is_there("second"), within_s=GENEROUS_S)
        assert told.pids("second") == []
        told.child.release()
        await _until(lambda: bool(told.pids("second")))

    living_in(tmp_path, story)
