"""Owns the change of processes under open ports: no connection refused, a failed successor changes nothing."""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control import ControlFailed, ask

GENEROUS_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    process = subprocess.Popen([sys.executable, "-m", "tests.support.mini_gateway", str(tmp_path)])
    try:
        deadline = time.monotonic() + GENEROUS_S
        while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield tmp_path
    finally:
        for pid in {process.pid, int((tmp_path / "pid").read_text())}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


def who_answers(folder: Path) -> int:
    connection = http.client.HTTPConnection(
        "127.0.0.1", int((folder / "port").read_text()), timeout=GENEROUS_S
    )
    try:
        connection.request("GET", "/")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def test_two_handovers_under_load_refuse_nobody(folder: Path) -> None:
    answered: list[int] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def hammer() -> None:
        while not over.is_set():
            try:
                answered.append(who_answers(folder))
            except (OSError, ValueError, http.client.HTTPException) as exc:
                failed.append(exc)
            time.sleep(0.005)

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        first = who_answers(folder)
        for _ in range(2):
            said = list(ask(folder / "control.sock", "upgrade"))
            assert "the new process serves" in said[-1]
        time.sleep(0.5)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert len(set(answered)) == 3
    assert answered[-1] != first


def test_a_successor_that_cannot_start_leaves_the_old_one_serving(folder: Path) -> None:
    first = who_answers(folder)
    (folder / "fail").touch()
    with pytest.raises(ControlFailed, match="exit code 3"):
        list(ask(folder / "control.sock", "upgrade"))
    assert who_answers(folder) == first


def test_an_unknown_command_is_refused(folder: Path) -> None:
    with pytest.raises(ControlFailed, match="does not know"):
        list(ask(folder / "control.sock", "explode"))


def test_without_a_gateway_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlFailed, match="no gateway runs"):
        list(ask(tmp_path / "control.sock", "upgrade"))


def test_the_control_socket_is_private(folder: Path) -> None:
    assert (folder / "control.sock").stat().st_mode & 0o777 == 0o600
