"""Owns the proof that `make run` and `make run-s3` give what they print: the lines work as they are."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import processes_naming, wait_gone
from tests.support.product import free_port
from tests.support.sif import make_small_sif


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        yield Path(folder)


@contextmanager
def _first_run(home: Path, ports: tuple[int, int], module: str = "gateway.first_run") -> Iterator[str]:
    """Run it until it has said its words; then end it as Ctrl-C would, and prove that nothing is left."""
    said = home / "said"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", module, "--data-dir", str(home / "data"),
                "--http", f"127.0.0.1:{ports[0]}", "--https", f"127.0.0.1:{ports[1]}",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_said(process, said)
        yield said.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
        left = wait_gone(processes_naming(str(home / "data")), timeout_s=10)
    assert status == 0
    assert left == []


def _wait_said(process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + 60
    while "Stop with Ctrl-C" not in said.read_text():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)


def test_the_lines_that_are_printed_work_and_a_second_run_makes_no_second_admin(home: Path) -> None:
    ports = free_port(), free_port()
    make_small_sif(home / "tool.sif")
    with _first_run(home, ports) as said:
        assert re.search(r"User +admin\n", said)
        assert re.search(r"Password +[0-9a-f-]{20,} ", said)
        command = said[said.index("curl --cacert") :].partition("\n\n")[0]
        done = subprocess.run(
            ["bash", "-ec", command + " --silent --fail-with-body"],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "admin/test/tool:v1" in done.stdout
        assert f"URI: //localhost:{ports[1]}" in said
    with _first_run(home, ports) as said:
        assert "Password" not in said
        assert re.search(r"User +admin\n", said)


def test_with_s3_nothing_is_left_when_it_is_killed(home: Path) -> None:
    said = home / "said"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.support.run_s3", "--data-dir", str(home / "data"),
                "--http", f"127.0.0.1:{free_port()}", "--https", f"127.0.0.1:{free_port()}",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_said(process, said)
    finally:
        process.kill()
        process.wait()
    assert wait_gone(processes_naming(str(home / "data")), timeout_s=20) == []


def test_with_s3_the_images_are_in_its_folder_and_there_again_after_a_restart(home: Path) -> None:
    ports = free_port(), free_port()
    make_small_sif(home / "tool.sif")
    with _first_run(home, ports, "tests.support.run_s3") as said:
        command = said[said.index("curl --cacert") :].partition("\n\n")[0]
        subprocess.run(
            ["bash", "-ec", command + " --silent --fail"], cwd=home, check=True, capture_output=True
        )
        assert not [path for path in (home / "data" / "blobs").rglob("*") if path.is_file()]
        assert any((home / "data" / "seaweedfs" / "weed").iterdir())
        line = re.search(r"For other commands, in their shell: (.*)\n", said)
        assert line
        assert (home / "data" / "environment").stat().st_mode & 0o077 == 0
        checked = subprocess.run(
            ["bash", "-ec", f"{line[1]}; {sys.prefix}/bin/registry fsck"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "All is well" in checked.stderr
    with _first_run(home, ports, "tests.support.run_s3"):
        back = subprocess.run(
            [
                "curl", "-sSfL", "--cacert", str(home / "data" / "tls" / "ca.crt"),
                f"https://localhost:{ports[1]}/v1/imagefile/admin/test/tool:v1",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        assert back.stdout == (home / "tool.sif").read_bytes()
