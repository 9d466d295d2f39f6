"""Owns SIGUSR2: to the first process it is `gateway upgrade`, to every other one it is nothing."""

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.product import Product, running_product


class Asking:
    """Asks again and again, each time by a new connection, until told to stop; keeps what went wrong."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.failed: list[str] = []

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                status, _ = self._product.get("/version")
            except OSError as exc:
                self.failed.append(repr(exc))
            else:
                if status != 200:
                    self.failed.append(str(status))

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_signal_upgrades_and_nobody_notices(short_path: Path, workers: int) -> None:
    with running_product(short_path, flags=("--workers", str(workers))) as product:
        first = product.pid
        for _ in range(2):
            with Asking(product) as asking:
                product.upgrade_by_signal()
                product.wait_only_one()
            assert asking.failed == []
        assert product.pid != first
        assert "this process goes on" not in product.log_text


@pytest.mark.slow
def test_children_are_not_ended_by_it(short_path: Path) -> None:
    with running_product(short_path, flags=("--workers", "2")) as product:
        children = processes.children_of(product.pid)
        assert len(children) == 3, "two workers and the core"
        for pid in children:
            os.kill(pid, signal.SIGUSR2)
        # Whoever it would have ended is gone, or counted as restarted, by the time all have answered.
        for _ in range(10):
            assert product.get("/version")[0] == 200
        assert processes.children_of(product.pid) == children
        assert "SIGUSR2" not in product.log_text


@pytest.mark.slow
def test_a_failure_is_a_sentence_in_the_log_and_the_old_process_serves_on(short_path: Path) -> None:
    config = short_path / "gateway.toml"
    config.write_text("")
    with running_product(short_path, flags=("--config", str(config))) as product:
        config.write_text("[registry]\nnmae = 'x'\n")
        os.kill(product.pid, signal.SIGUSR2)
        product.wait_log(r"upgrade: the new process did not get ready \(exit code 2\).*this process goes on")
        assert "did you mean registry.name?" in product.log_text
        assert product.get("/version")[0] == 200
        config.write_text("")
        product.upgrade_by_signal()
        product.wait_only_one()
        assert product.get("/version")[0] == 200


@pytest.mark.slow
def test_who_ends_the_gateway_in_the_middle_of_an_upgrade_ends_the_new_process_too(short_path: Path) -> None:
    with running_product(short_path) as product:
        os.kill(product.pid, signal.SIGUSR2)
        product.wait_log(r"handover: new process started")
        assert product.stop() == 0
        named = re.findall(r"handover: new process started \(pid (\d+)\)", product.log_text)
        assert processes.wait_gone([int(pid) for pid in named], timeout_s=10) == []
        product.start()  # on the same ports: nobody has them any more
