"""Tests of a reload within one process: what it says, and what a listener that is being started gets of it."""

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.core_health import Probe
from gateway.errors import Problem, SettingsError
from gateway.net.server import Server
from gateway.reload import Reload
from gateway.settings import Settings
from gateway.settings_source import LoadedSettings, load
from gateway.supervise import WORKER_VARIABLE


class Failing:
    """A process that cannot take anything up."""

    probe: Probe

    def take(self, settings: Settings) -> None:
        """Raises: SettingsError."""
        raise SettingsError((Problem(where="routes", what="no such thing here"),))

    def renew_certificate(self) -> None:
        """There is none."""


def settings_in(folder: Path) -> LoadedSettings:
    (folder / "gateway.toml").write_text(
        f"""[server]
data_dir = "{folder}/data"
public_url = "http://localhost"
[tls]
mode = "off"
"""
    )
    return load(file=folder / "gateway.toml", environ={})


def test_a_worker_that_fails_alone_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(WORKER_VARIABLE, "2")
    caplog.set_level(logging.INFO, logger="gateway")
    Reload(settings_in(tmp_path), {}, Failing())()
    assert "reload: the settings stay as they are: routes: no such thing here" in caplog.text


def test_a_listener_that_is_being_started_has_the_latest_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        settings = settings_in(tmp_path).settings
        gateway = Gateway(settings, owns_core=False)
        start = Server.start

        async def start_during_reload(server: Server) -> None:
            gateway.take(settings.model_copy())
            await start(server)

        monkeypatch.setattr(Server, "start", start_during_reload)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await gateway.listen({"http": listener})
            (context,) = gateway.contexts
            assert context.find_peer == gateway.wiring.find_peer
            gateway.servers[0].close_listener()
        gateway.threads.shutdown()

    asyncio.run(main())
