"""The keeper's process: what becomes of it when it is cancelled or dies, and an authority's renewal advice."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.acme.keeper import Keeper, TurnBroken, open_keeper, take_turn_apart
from gateway.acme.live import install
from gateway.acme.plan import AcmePlan, plan_of
from gateway.acme.state import AcmeState
from gateway.acme.status import certificate_status
from gateway.acme.turn import take_turn
from gateway.errors import SettingsError
from gateway.net.certificate import make_pair
from gateway.net.files import locked
from gateway.net.tls import open_source
from gateway.settings import Settings
from tests.support.certificates import rsa_chain
from tests.support.processes import children_of, wait_gone


@contextmanager
def authority(answers: dict[str, object]) -> Iterator[str]:
    """A web server that gives JSON by path; paths that begin like a key are meant too."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = next((a for path, a in answers.items() if self.path.startswith(path)), None)
            self.send_response(200 if answer is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After", "3600")
            self.end_headers()
            self.wfile.write(json.dumps(answer or {}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def plan(data_dir: Path, directory: str) -> AcmePlan:
    data_dir.mkdir(exist_ok=True)
    (data_dir / "acme").mkdir(exist_ok=True)
    return AcmePlan(data_dir=data_dir, names=("a.example",), directory=directory)


def with_certificate(wanted: AcmePlan) -> AcmePlan:
    chain = rsa_chain(["a.example"])
    install(wanted, make_pair(chain.chain, chain.key), AcmeState(), datetime.now(UTC))
    return wanted


def test_other_names_are_ordered_for_after_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(public_url: str) -> Settings:
        server = {"data_dir": tmp_path, "public_url": public_url}
        tls = {"mode": "acme", "acme_directory": "http://127.0.0.1:1/dir"}
        return Settings.model_validate({"server": server, "tls": tls})

    ordered: list[tuple[str, ...]] = []

    async def turn(wanted: AcmePlan) -> dict[str, object]:
        ordered.append(wanted.names)
        return {"outcome": "waited", "sentence": ""}

    monkeypatch.setattr("gateway.acme.keeper.take_turn_apart", turn)
    first = settings("https://a.example")
    (tmp_path / "acme").mkdir()
    source = open_source(first)
    assert source is not None
    keeper = open_keeper(first, source)
    assert keeper is not None
    asyncio.run(keeper.step())
    keeper.follow(settings("https://b.example"))
    asyncio.run(keeper.step())
    with pytest.raises(SettingsError, match="needs a name"):
        keeper.follow(settings("https://localhost"))
    asyncio.run(keeper.step())
    assert ordered == [("a.example",), ("b.example",), ("b.example",)]


def test_the_authoritys_window_decides_when_to_renew(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    start, end = now + timedelta(days=3), now + timedelta(days=4)
    window = {"suggestedWindow": {"start": start.isoformat(), "end": end.isoformat()}}
    answers: dict[str, object] = {"/ari/": window}
    with authority(answers) as url:
        answers["/dir"] = {"renewalInfo": f"{url}/ari"}
        wanted = with_certificate(plan(tmp_path, f"{url}/dir"))
        turn = take_turn(wanted)
        assert turn.outcome == "advised"
        assert "by the authority" in turn.sentence
        state = AcmeState.load(wanted.folder)
        assert state.renew_at is not None
        assert start <= state.renew_at <= end
        assert state.advice_due_at is not None
        hour = timedelta(
            hours=1
        )  # of which the authority's Retry-After tells, give or take the keeper's jitter
        assert (
            now + hour - timedelta(minutes=1)
            < state.advice_due_at
            < datetime.now(UTC) + hour + timedelta(minutes=10)
        )
        assert take_turn(wanted).outcome == "waiting"


def test_without_advice_the_certificates_own_dates_hold(tmp_path: Path) -> None:
    with authority({"/dir": {"renewalInfo": "http://127.0.0.1:9/ari"}}) as url:
        now = datetime.now(UTC)
        wanted = with_certificate(plan(tmp_path, f"{url}/dir"))
        before = AcmeState.load(wanted.folder).renew_at
        turn = take_turn(wanted)
        assert turn.outcome == "waiting"
        assert "No renewal advice" in turn.sentence
        state = AcmeState.load(wanted.folder)
        assert state.renew_at == before
        assert state.advice_due_at is not None
        assert state.advice_due_at > now + timedelta(hours=5)


def test_only_one_process_takes_a_turn(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "http://127.0.0.1:9/dir")
    with locked(wanted.folder):
        assert take_turn(wanted).outcome == "busy"


def test_a_turn_that_dies_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    lost = AcmePlan(data_dir=tmp_path / "file", names=("a.example",), directory="http://127.0.0.1:9/dir")
    with pytest.raises(TurnBroken, match="NotADirectoryError"):
        asyncio.run(take_turn_apart(lost))


def test_a_turn_that_dies_is_remembered_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(_: AcmePlan) -> dict[str, object]:
        raise TurnBroken("it ran out of memory")

    monkeypatch.setattr("gateway.acme.keeper.take_turn_apart", die)
    server = {"data_dir": tmp_path, "public_url": "https://a.example"}
    settings = Settings.model_validate({"server": server, "tls": {"mode": "acme"}})
    wanted = plan_of(settings)
    wanted.folder.mkdir()
    source = open_source(settings)
    assert source is not None
    assert asyncio.run(Keeper(wanted, source).step()) == "failed"
    assert AcmeState.load(wanted.folder).last_error == "it ran out of memory"
    assert certificate_status(settings).last_error == "it ran out of memory"


def test_a_cancelled_turn_leaves_no_process_and_counts_as_a_failure(tmp_path: Path) -> None:
    async def story() -> None:
        knocked = asyncio.Event()

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            knocked.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = Settings.model_validate(
                {
                    "server": {"data_dir": tmp_path, "public_url": "https://a.example"},
                    "tls": {"mode": "acme", "acme_directory": f"http://127.0.0.1:{port}/dir"},
                }
            )
            keeper = opened(settings)
            others = children_of(os.getpid())  # servers that other tests share
            caring = asyncio.create_task(keeper.run())
            await knocked.wait()
            mine = [child for child in children_of(os.getpid()) if child not in others]
            assert mine
            caring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caring
            assert wait_gone(mine, timeout_s=10) == []
            assert await opened(settings).step() == "", "the next start waits"

    asyncio.run(story())
    state = AcmeState.load(tmp_path / "acme")
    assert state.retry_at is not None
    assert state.retry_at > datetime.now(UTC)


def opened(settings: Settings) -> Keeper:
    source = open_source(settings)
    assert source is not None
    keeper = open_keeper(settings, source)
    assert keeper is not None
    return keeper


def test_other_modes_have_no_keeper(tmp_path: Path) -> None:
    settings = Settings.model_validate({"server": {"data_dir": tmp_path}})
    source = open_source(settings)
    assert source is not None
    assert open_keeper(settings, source) is None
