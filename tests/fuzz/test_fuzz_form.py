"""A bounded run of the fuzz target, so that every test run has one."""

import random
import subprocess
import sys
from pathlib import Path

from tests.fuzz.fuzz_form import check_one, mutate

ROOT = Path(__file__).parents[2]
SECONDS = 10


def test_the_fuzzer_finds_nothing_in_its_time() -> None:
    """Coverage-guided where atheris has wheels (pyproject.toml, group fuzz), as it has where CI runs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_form", str(SECONDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs in" in done.stderr or "nothing found" in done.stdout


def test_a_thousand_broken_forms_are_read_as_the_reference_reads_them() -> None:
    chance = random.Random(20260101)
    for _ in range(1000):
        check_one(mutate(chance))
