"""The deploy hook: what it is told, that it is a line for the shell, and that none of its failures is silent."""

import signal
from pathlib import Path

import pytest

from gateway.acme.hook import run_hook
from tests.support import processes


def test_it_is_a_line_for_the_shell_that_knows_what_it_is_told(tmp_path: Path) -> None:
    told = {"CERTIFICATE_FILE": "/data/acme/live.pem", "CERTIFICATE_NAMES": "a.example b.example"}
    line = f"for name in $CERTIFICATE_NAMES; do echo $CERTIFICATE_FILE $name; done | sort -r > {tmp_path}/out && true"
    assert run_hook(line, told) == ""
    assert (tmp_path / "out").read_text().splitlines() == [
        "/data/acme/live.pem b.example",
        "/data/acme/live.pem a.example",
    ]


def test_no_hook_is_no_trouble() -> None:
    assert run_hook("", {}) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("echo no disk >&2; exit 7", "ended with status 7: no disk"),
        ("/nonexistent/reload", "ended with status 127"),
        ("echo 'unclosed", "ended with status 2"),
        ("kill -9 $$", "ended with status -9"),
    ],
)
def test_its_failure_is_told(line: str, said: str) -> None:
    assert said in run_hook(line, {})


def test_a_line_that_no_program_can_be_given_is_told() -> None:
    assert "could not be run" in run_hook("echo \0", {})


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    line = f"tail -f {tmp_path}/nothing & wait"
    (tmp_path / "nothing").touch()
    assert "took longer than 1 seconds" in run_hook(line, {}, patience_s=1)
    assert processes.wait_gone(processes.processes_naming(str(tmp_path)), timeout_s=60) == []


def test_a_service_that_it_leaves_running_does_not_hold_us(tmp_path: Path) -> None:
    assert run_hook(f"sleep 600 & echo $! > {tmp_path}/pid", {}) == ""
    pid = int((tmp_path / "pid").read_text())
    assert processes.is_alive(pid)
    processes.send(pid, signal.SIGKILL)
