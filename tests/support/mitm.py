"""Owns a peer that does harm: mitmproxy between two programs, cutting, delaying and refusing as a test says."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mitmproxy import http

from gateway.trace.inspector import Inspector, Upstream, cut_client


@dataclass(slots=True, kw_only=True)
class Harm:
    """What is done to exchanges whose path has ``on_path`` in it. ``times`` counts down; None = always.

    cut_request_after, cut_answer_after: bytes of the body that pass before the connection is reset.
    delay_s: before the request is passed on. status: answered in place of the upstream.
    """

    on_path: str = ""
    times: int | None = None
    cut_request_after: int | None = None
    cut_answer_after: int | None = None
    delay_s: float = 0.0
    status: int = 0
    done: list[str] = field(default_factory=list)

    def applies(self, flow: http.HTTPFlow) -> bool:
        """Whether this exchange is harmed."""
        return self.times != 0 and self.on_path in flow.request.path

    def note(self, flow: http.HTTPFlow) -> None:
        """It was."""
        self.done.append(flow.request.path)
        if self.times is not None:
            self.times -= 1


class _HarmAddon:
    def __init__(self, harm: Harm) -> None:
        self._harm = harm

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        harm = self._harm
        if not harm.applies(flow):
            return
        if harm.status:
            harm.note(flow)
            flow.response = http.Response.make(harm.status, b"harm", {"content-type": "text/plain"})
            flow.request.stream = False
        if harm.delay_s:
            harm.note(flow)
            await asyncio.sleep(harm.delay_s)
        if harm.cut_request_after is not None:
            flow.request.stream = _Cutter(flow, harm, harm.cut_request_after)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        harm = self._harm
        if harm.cut_answer_after is not None and flow.response is not None and harm.applies(flow):
            flow.response.stream = _Cutter(flow, harm, harm.cut_answer_after)


class _Cutter:
    def __init__(self, flow: http.HTTPFlow, harm: Harm, left: int) -> None:
        self._flow, self._harm, self._left = flow, harm, left

    def __call__(self, piece: bytes) -> list[bytes]:
        """In a list: an empty piece would be sent as the last chunk of a chunked body."""
        if self._left < 0 or not piece:
            return []
        passed = piece[: self._left]
        self._left -= len(passed)
        if len(passed) < len(piece) or not self._left:
            self._left = -1
            self._harm.note(self._flow)
            # After what passes has been written.
            asyncio.get_running_loop().call_soon(cut_client, self._flow)
        return [passed] if passed else []


@contextmanager
def harming(upstream: str, harm: Harm) -> Iterator[str]:
    """A proxy to ``upstream`` (an URL, or ``unix:/path``) in a thread of its own; its address."""
    started = threading.Event()
    stop: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []
    address: list[str] = []
    failures: list[BaseException] = []

    async def run() -> None:
        ended = asyncio.Event()
        inspector = Inspector((Upstream(kind="harm", url=upstream),), addons=(_HarmAddon(harm),))
        async with inspector:
            stop.append(ended)
            loops.append(asyncio.get_running_loop())
            address.append(inspector.addresses["harm"])
            started.set()
            await ended.wait()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as failure:
            failures.append(failure)
        finally:
            started.set()

    thread = threading.Thread(target=main, name="mitmproxy")
    thread.start()
    started.wait()
    try:
        assert address, failures
        yield address[0]
    finally:
        for loop, ended in zip(loops, stop, strict=True):
            loop.call_soon_threadsafe(ended.set)
        thread.join()
    assert not failures, failures
