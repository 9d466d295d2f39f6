"""Owns the proof that a resumable upload can be killed between any two system calls and goes on."""

import subprocess
import sys
from pathlib import Path


def test_killed_at_every_call_the_upload_goes_on_and_is_whole(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.resumable_crashes", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
