"""Owns what goes on beside the requests: it outlives whatever befalls it."""

import asyncio
import errno

import pytest

from gateway import lifecycle
from gateway.lifecycle import persistent


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.EMFILE, "Too many open files"), ExceptionGroup("x", [OSError()]), KeyError("bug")],
)
def test_a_job_that_fails_begins_again(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(lifecycle, "AGAIN_S", 0.0)
    failures = [failure, failure]

    async def job() -> None:
        if failures:
            raise failures.pop()

    asyncio.run(persistent("job", job))
    assert failures == []


def test_a_job_that_is_cancelled_ends() -> None:
    async def job() -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        task = asyncio.ensure_future(persistent("job", job))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
