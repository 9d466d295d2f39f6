"""Owns what the ``registry`` command promises: exit codes, what goes to which stream, and work while the server runs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs ``registry`` on a folder of the test's own."""

    def command(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "registry_core", *words, "--data-dir", str(tmp_path / "data")],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return command


def test_accounts_are_made_used_and_ended(run: Run) -> None:
    assert run("user", "add", "alice", "--password-stdin", stdin="correct horse\n").returncode == 0
    made = run("token", "create", "alice", "--scope", "push", "--expires", "30")
    assert made.returncode == 0
    assert made.stdout.count("\n") == 1
    assert len(made.stdout.strip()) >= 200
    listed = run("token", "list", "alice")
    assert made.stdout[:10] in listed.stdout
    assert made.stdout.strip() not in listed.stdout
    assert run("token", "revoke", "1").returncode == 0
    assert run("token", "revoke", "1").returncode == 1


def test_what_fails_is_told_in_a_sentence(run: Run) -> None:
    short = run("user", "add", "alice", "--password-stdin", stdin="short\n")
    assert (short.returncode, short.stdout) == (1, "")
    assert "8 to 1,024 characters" in short.stderr
    assert run("token", "create", "nobody").returncode == 1
    assert run("token", "create", "alice", "--scope", "all").returncode == 2
    assert run("no-such-command").returncode == 2


def test_wrong_settings_end_with_2_and_every_problem(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[registry]\nnaem = "x"\npart_bytes = -1\n')
    wrong = run("user", "list", "--config", str(file))
    assert wrong.returncode == 2
    assert "did you mean registry.name?" in wrong.stderr


def test_two_commands_may_be_the_first_at_once(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "registry_core",
                "user",
                "add",
                name,
                "--robot",
                "--data-dir",
                str(tmp_path),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    for process in started:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told


def test_upkeep_works_on_an_empty_registry(run: Run, tmp_path: Path) -> None:
    assert run("db", "upgrade").returncode == 0
    for words in (("gc", "--dry-run"), ("gc",), ("fsck",), ("backup", str(tmp_path / "saved"))):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    assert run("restore", str(tmp_path / "saved")).returncode == 0
    assert run("restore", str(tmp_path / "none")).returncode == 2


def test_quotas_are_written_as_people_do(run: Run) -> None:
    run("user", "add", "alice", "--robot")
    assert run("collection", "quota", "alice", "1.5G").returncode == 0
    assert run("collection", "quota", "alice", "many").returncode == 1
    assert run("collection", "quota", "nobody", "1G").returncode == 1
    assert run("collection", "private", "alice/none").returncode == 1
