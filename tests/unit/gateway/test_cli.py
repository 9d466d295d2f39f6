"""Owns the command line: what each command prints and with which status it ends."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway import app, cli
from gateway.app import CommandLine
from gateway.errors import Problem, SettingsError
from gateway.settings_source import LoadedSettings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GATEWAY_CONFIG", "MINIO_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_help_names_every_command() -> None:
    text = run("--help").output
    assert all(word in text for word in ("serve", "check", "settings", "maintenance", "uploads"))


def test_an_unknown_command_is_wrong_usage() -> None:
    assert run("explode").exit_code == 2
    assert run("serve", "--tls", "maybe").exit_code == 2
    assert run("serve", "--workers", "0").exit_code == 2


def test_check_names_every_problem_of_a_broken_file_at_once_and_exits_2(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text('[server]\nhtpp = "x"\nworkers = -1\n[limits]\nbody_idle_s = "long"\n[nonsense]\nx = 1\n')
    result = run("check", "--config", file)
    assert result.exit_code == 2
    for word in (
        "server.htpp",
        "did you mean server.http",
        "server.workers",
        "limits.body_idle_s",
        "nonsense",
    ):
        assert word in result.stderr


@pytest.mark.parametrize("command", ["check", "settings", "serve"])
def test_a_file_that_is_missing_is_said_to_be(command: str, tmp_path: Path) -> None:
    result = run(command, "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


class TestServe:
    """Flags become settings; the rest is the application's."""

    def test_flags_become_settings(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        seen: list[tuple[LoadedSettings, CommandLine]] = []

        def serve(loaded: LoadedSettings, command: CommandLine) -> int:
            seen.append((loaded, command))
            return 0

        monkeypatch.setattr(app, "serve", serve)
        result = run("serve", "--data-dir", "d", "--http", "127.0.0.1:1", "--tls", "off", "--workers", 2)
        assert result.exit_code == 0
        loaded, command = seen[0]
        assert loaded.settings.data_dir == tmp_path / "d"
        assert loaded.settings.tls.mode == "off"
        assert command.flags["server.workers"] == 2
        assert "server.https" not in command.flags
        assert command.arguments == [
            "serve", "--data-dir", str(tmp_path / "d"), "--http", "127.0.0.1:1", "--tls", "off", "--workers", "2"
        ]  # fmt: skip

    def test_what_shows_only_at_the_start_exits_2_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def serve(*_: Any) -> int:
            raise SettingsError((Problem(where="server.http", what="cannot listen"),))

        monkeypatch.setattr(app, "serve", serve)
        result = run("serve")
        assert result.exit_code == 2
        assert "server.http: cannot listen" in result.stderr


class TestMaintenance:
    """The switch."""

    def test_on_status_off(self, tmp_path: Path) -> None:
        on = run(
            "maintenance", "on", "--data-dir", tmp_path, "--mode", "read-only", "--message", "Moving.",
            "--until", "2099-01-01T10:00Z", "--allow", "192.0.2.0/24",
        )  # fmt: skip
        assert on.exit_code == 0
        status = json.loads(run("maintenance", "status", "--json", "--data-dir", tmp_path).output)
        assert status == {
            "on": True,
            "at": None,
            "mode": "read-only",
            "message": "Moving.",
            "until": "2099-01-01T10:00:00Z",
            "since": status["since"],
            "allow": ["192.0.2.0/24"],
        }
        assert "read-only" in run("maintenance", "status", "--data-dir", tmp_path).output
        assert run("maintenance", "off", "--data-dir", tmp_path).exit_code == 0
        assert json.loads(run("maintenance", "status", "--json", "--data-dir", tmp_path).output) == {
            "on": False
        }
        assert run("maintenance", "off", "--data-dir", tmp_path).exit_code == 0

    @pytest.mark.parametrize(
        "wrong",
        [
            ("--at", "2001-01-01"),
            ("--until", "noon"),
            ("--until", "2001-01-01"),
            ("--allow", "everybody"),
            ("--mode", "half"),
        ],
    )
    def test_wrong_usage_changes_nothing(self, tmp_path: Path, wrong: tuple[str, str]) -> None:
        assert run("maintenance", "on", "--data-dir", tmp_path, *wrong).exit_code == 2
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_written_is_a_failure(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = run("maintenance", "on", "--data-dir", tmp_path / "file")
        assert result.exit_code in (1, 2)
        assert "file" in result.stderr


def test_settings_shows_values_with_their_origin(tmp_path: Path) -> None:
    text = run("settings", "--data-dir", tmp_path).output
    assert re.search(rf"^server\.data_dir +=.*{tmp_path}.*# command line$", text, re.M)
    assert json.loads(run("settings", "--json").output)["log.level"] == {"value": "info", "origin": "default"}


def test_settings_prints_a_template() -> None:
    assert "#workers = 1" in run("settings", "--template").output


def test_uploads_of_a_fresh_registry_are_none(tmp_path: Path) -> None:
    assert "0 uploads in progress, 0 commits" in run("uploads", "ls", "--data-dir", tmp_path).output
    assert run("uploads", "sweep", "--data-dir", tmp_path).exit_code == 0
    listed = json.loads(run("uploads", "ls", "--json", "--data-dir", tmp_path).output)
    assert listed == {"uploads": [], "waiting_commits": 0}


def test_a_sweep_leaves_what_was_promised_and_waits_for_the_store(tmp_path: Path) -> None:
    import subprocess

    leave_promised = """
import sys
from pathlib import Path
from gateway.contract import Commit
from gateway.outbox_records import Delivery, OutboxFolder, Placement
from gateway.settings import Settings
from gateway.store.opening import open_store

data = Path(sys.argv[1])
writer = open_store(Settings.model_validate({"server": {"data_dir": data}})).create("ab" * 16, size_hint=3)
writer.write(b"abc")
sealed = writer.seal()
folder = OutboxFolder(data / "outbox", durable=False)
folder.prepare()
placed = Placement(staged=sealed.staged, size=3, sha256="ab" * 32, key="a/b/c:sha256." + "ab" * 32)
folder.add(Delivery(ticket_id="t", commit=Commit(ticket="t"), placements=(placed,)), request_id="r")
"""
    subprocess.run([sys.executable, "-c", leave_promised, str(tmp_path)], check=True)
    swept = run("uploads", "sweep", "--data-dir", tmp_path)
    assert swept.exit_code == 1
    assert "1 uploads are complete and wait for the store" in swept.stderr
    (listed,) = json.loads(run("uploads", "ls", "--json", "--data-dir", tmp_path).output)["uploads"]
    assert (listed["id"], listed["size"], listed["active"]) == ("ab" * 16, 3, False)


def test_the_command_starts_without_the_heavy_libraries() -> None:
    import subprocess

    code = "import gateway.cli, sys; print([m for m in ('pydantic','cryptography','minio','acme','prometheus_client','sqlalchemy','asyncio') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert output.strip() == "[]"
