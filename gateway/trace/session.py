"""Owns one run of ``gateway trace``: listen, put stories together, show them, and leave nothing on behind it."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from gateway.trace.events import Event
from gateway.trace.listening import DetourRefused, Listening, NobodyThere, ask_hops
from gateway.trace.s3_hop import expectation_of
from gateway.trace.stories import Filter, Slowest, Stories, Story
from gateway.trace.view import lines_of, ranking

_TICK_S: Final = 0.1
_DRAIN_TICK_S: Final = 0.2


class TraceFailed(Exception):
    """Trace cannot go on; the sentence says why."""


class NoSuchHop(Exception):
    """What was to be inspected is not there; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asked for. ``inspect`` holds the hops to lead through mitmproxy; ``all_there`` = those of
    them that there are.
    """

    wanted: Filter
    verbose: bool = False
    as_json: bool = False
    slowest: int = 0
    seconds: float | None = None
    inspect: tuple[str, ...] = ()
    all_there: bool = False
    listen: str = ""
    save: Path | None = None


class Running(Protocol):
    """How many exchanges are not over (``recorder.Recorder``)."""

    @property
    def running(self) -> int: ...


class Show:
    """Events in, lines out."""

    def __init__(self, wishes: Wishes, say: Callable[[str], None], note: Callable[[str], None]) -> None:
        """``say`` prints what was asked for, ``note`` what a person should know beside it."""
        self._wishes = wishes
        self._say_to = say
        self._note = note
        self.is_cut = False  # whoever read our lines has gone
        self._stories = Stories(inspected=frozenset(wishes.inspect))
        self._slowest = Slowest(wishes.slowest) if wishes.slowest else None

    def take(self, event: Event) -> None:
        """From the gateway."""
        match event.get("event"):
            case "missed":
                self._note(f"{event.get('count')} events were missed: more than this terminal can take")
            case "unheard":
                self._note(str(event.get("why")))
            case _:
                self._stories.add(event, time.monotonic())

    def take_inspected(self, event: Event) -> None:
        """From mitmproxy."""
        self._stories.add(event, time.monotonic(), by_inspector=True)

    def tick(self) -> None:
        """Show what is over, and what should be."""
        now = time.monotonic()
        self._show(self._stories.take_finished(now))
        overdue = [] if self._slowest or self._wishes.as_json else self._stories.take_overdue(now)
        self._print(story for story in overdue if not self._wishes.wanted.slower_than_s)

    def flush(self) -> None:
        """Show everything at once, over or not."""
        self._show(self._stories.rest())

    def end(self) -> None:
        """Show what is left."""
        self.flush()
        if self._slowest is not None:
            self._print_ranking(self._slowest.ranked())

    def _say(self, line: str) -> None:
        if self.is_cut:
            return
        try:
            self._say_to(line)
        except BrokenPipeError:
            self.is_cut = True

    def _show(self, stories: Iterable[Story]) -> None:
        for story in stories:
            if not self._wishes.wanted.wants(story):
                continue
            if self._slowest is None:
                self._print((story,))
            elif story.answer is not None:
                self._slowest.add(story)

    def _print_ranking(self, stories: list[Story]) -> None:
        if self._wishes.as_json:
            self._print(stories)
            return
        for line in ranking(stories):
            self._say(line)

    def _print(self, stories: Iterable[Story]) -> None:
        for story in stories:
            if self._wishes.as_json:
                self._say(json.dumps(story.as_json(), ensure_ascii=False))
                continue
            for line in lines_of(story, verbose=self._wishes.verbose):
                self._say(line)


async def trace(
    folder: Path, wishes: Wishes, say: Callable[[str], None], note: Callable[[str], None]
) -> None:
    """Until a signal, or for ``wishes.seconds``. ``folder`` has the sockets. Raises: TraceFailed, NoSuchHop."""
    hops: dict[str, dict[str, Any]] = {}
    if wishes.inspect:
        try:
            hops = await ask_hops(folder)
        except NobodyThere as exc:
            raise TraceFailed(str(exc)) from exc
        wishes = _there(wishes, hops, note)
    show = Show(wishes, say, note)
    ended = _ended_by_signal()
    async with AsyncExitStack() as stack:
        detours: dict[str, str] = {}
        recorder: Running | None = None
        if wishes.inspect:
            save = stack.enter_context(_create(wishes.save)) if wishes.save else None
            detours, recorder = await _inspect(stack, hops, wishes, show, save)
            note(f"inspecting: {', '.join(f'{kind} by {where}' for kind, where in detours.items())}")
        listening = Listening(folder, show.take, heads=wishes.verbose, detours=detours)
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(listening.run())
                await _watch(listening, show, wishes, ended, note)
                if recorder is not None:
                    await _leave(listening, recorder, show, ended, note)
                task.cancel()
        except* (NobodyThere, DetourRefused) as failed:
            raise TraceFailed(str(_first_of(failed))) from failed
        finally:
            show.end()


def _there(wishes: Wishes, hops: Iterable[str], note: Callable[[str], None]) -> Wishes:
    """The wishes with the hops that there are. Raises: NoSuchHop."""
    missing = [kind for kind in wishes.inspect if kind not in hops]
    if not missing:
        return wishes
    # Only S3 can be: a gateway without a core is none.
    why = "images are not kept in S3 (storage.kind), nor are the files of a route (store_s3)"
    if not wishes.all_there or wishes.listen:
        raise NoSuchHop(f"--inspect s3: {why}")
    note(f"there is no hop to S3: {why}")
    return replace(wishes, inspect=tuple(kind for kind in wishes.inspect if kind not in missing))


def _create(path: Path) -> BinaryIO:
    """For our eyes only: who asked for what is nobody else's business."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _watch(
    listening: Listening, show: Show, wishes: Wishes, ended: "Ended", note: Callable[[str], None]
) -> None:
    """Until it is enough; a listener that fails ends this too."""
    until = None if wishes.seconds is None else time.monotonic() + wishes.seconds
    was_ready = False
    while not ended.count and not show.is_cut and (until is None or time.monotonic() < until):
        if listening.ready.is_set() and not was_ready:
            was_ready = True
            note("listening; Ctrl-C ends")
        show.tick()
        await asyncio.sleep(_TICK_S)


async def _leave(
    listening: Listening, recorder: Running, show: Show, ended: "Ended", note: Callable[[str], None]
) -> None:
    """Take no new exchange, and let those end that go through us: a second Ctrl-C cuts them."""
    stops = ended.count
    await listening.end_detours()
    if recorder.running:
        note(f"{recorder.running} exchanges are still running through here; Ctrl-C again cuts them")
    while recorder.running and ended.count == stops:
        show.tick()
        await asyncio.sleep(_DRAIN_TICK_S)


async def _inspect(
    stack: AsyncExitStack,
    hops: dict[str, dict[str, Any]],
    wishes: Wishes,
    show: Show,
    save: BinaryIO | None,
) -> tuple[dict[str, str], Running]:
    # Nothing else of trace, and nothing of the gateway, should pay for mitmproxy's import.
    from gateway.trace.inspector import Inspector, InspectorFailed, Upstream  # noqa: PLC0415
    from gateway.trace.recorder import Recorder  # noqa: PLC0415

    def upstream(kind: str) -> Upstream:
        ca_file = hops[kind].get("ca_file")
        return Upstream(kind=kind, url=str(hops[kind]["url"]), ca_file=Path(ca_file) if ca_file else None)

    upstreams = [upstream(kind) for kind in wishes.inspect]
    if wishes.listen:  # beside the one for the gateway, which is on loopback always
        upstreams.append(replace(upstream("s3"), listen=wishes.listen))
    inspector = Inspector(tuple(upstreams))
    recorder = Recorder(
        show.take_inspected,
        kind_of=inspector.kind_of,
        expected=expectation_of(hops["s3"]) if "s3" in wishes.inspect else None,
        save=save,
    )
    inspector.addons = (recorder,)
    try:
        await stack.enter_async_context(inspector)
    except InspectorFailed as exc:
        raise TraceFailed(str(exc)) from exc
    return inspector.addresses, recorder


class Ended:
    """Counts the requests to stop."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        """One more."""
        self.count += 1


def _ended_by_signal() -> Ended:
    ended = Ended()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.note)
    return ended
