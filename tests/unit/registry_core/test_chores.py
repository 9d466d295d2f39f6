"""Owns the promise that one chore that goes wrong ends neither the others nor itself."""

import logging
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from registry_core import chores
from registry_core.registry import Registry
from registry_core.service import cleaning, pull, webhooks


def test_a_mistake_in_a_chore_is_logged_and_the_chores_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    again = {name: threading.Semaphore(0) for name in ("count", "tell")}

    def fail(name: str) -> Any:
        def chore(_registry: object) -> None:
            again[name].release()
            raise ZeroDivisionError(name)

        return chore

    monkeypatch.setattr(chores, "EVERY_S", 0.001)
    monkeypatch.setattr(pull, "write_downloads", fail("count"))
    monkeypatch.setattr(webhooks, "deliver_due", fail("tell"))
    monkeypatch.setattr(cleaning, "forget", lambda _registry: 1 / 0)
    settings = SimpleNamespace(storage=SimpleNamespace(cleanup=False))
    running = chores.Chores(cast("Registry", SimpleNamespace(now=0, settings=settings)))
    with caplog.at_level(logging.ERROR):
        running.start()
        for name in ("count", "tell"):
            for _ in range(3):
                assert again[name].acquire(timeout=10)
        running.stop()
    said = {record.message for record in caplog.records}
    assert said == {"downloads were not counted", "webhooks were not told", "old rows were not removed"}
