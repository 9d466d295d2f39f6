"""Owns the maintenance switch: who passes, what is said, and that it is never forgotten nor half-read."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.contract import parse_moment
from gateway.http.exchange import Peer
from gateway.http.fields import Networks, resolve_peer
from gateway.http.head import NO_BODY, Fields, RequestHead
from gateway.maintenance import (
    MaintenanceAnswers,
    MaintenanceState,
    MaintenanceSwitch,
    Mode,
    must_cut,
    parse_networks,
    parse_state,
    refusal,
    static_api_reply,
)
from gateway.settings import Settings

BROWSER = (("accept", "text/html,application/xhtml+xml;q=0.9"),)


def made(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


def head(method: str = "GET", target: str = "/", fields: tuple[tuple[str, str], ...] = ()) -> RequestHead:
    return RequestHead(method=method, target=target, fields=Fields(fields), framing=NO_BODY)


def make_switch(data_dir: Path) -> MaintenanceSwitch:
    return MaintenanceSwitch(data_dir, look_every_s=0)


def peer(address: str = "127.0.0.1") -> Peer:
    return Peer(
        address=address, scheme="https", is_admin=True, trusts_forwarded=False, socket_address="127.0.0.1"
    )


def refuses(
    mode: Mode, method: str, path: str, *, address: str = "127.0.0.1", allow: tuple[str, ...] = ()
) -> bool:
    state = MaintenanceState(mode=mode, allow=parse_networks(allow))
    return refusal(state, method=method, path=path, peer=peer(address))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/upload",
        "/v1/images/a/b/c",
        "/v2/imagefile/1",
        "/login",
        "/-",
        "/versions",
        "//-/../app/x",
        "//.well-known/acme-challenge/../../app/x",
        "//version/../app/x",
    ],
)
def test_full_maintenance_closes_everything_even_to_the_machine_itself(path: str) -> None:
    assert refuses("full", "GET", path)
    assert refuses("full", "POST", path)


@pytest.mark.parametrize(
    "path",
    [
        "/-/healthz",
        "/-/metrics",
        "/.well-known/acme-challenge/abc",
        "/assets/config/config.prod.json",
        "/version",
        "//version",
        "//assets/config//config.prod.json",
    ],
)
def test_what_clients_and_operators_cannot_do_without_stays_open(path: str) -> None:
    assert not refuses("full", "GET", path)


@pytest.mark.parametrize(
    ("mode", "method", "path", "is_refused"),
    [
        ("read-only", "GET", "/v1/images/a/b/c", False),
        ("read-only", "HEAD", "/v1/blobs/x", False),
        ("read-only", "OPTIONS", "/uploads/", False),
        ("read-only", "POST", "/upload", True),
        ("read-only", "PUT", "/v2/transfers/x", True),
        ("read-only", "DELETE", "/v1/images/a/b/c", True),
        ("uploads-off", "GET", "/upload", False),
        ("uploads-off", "POST", "/upload", True),
        ("uploads-off", "PATCH", "/uploads/1", True),
        ("uploads-off", "PUT", "/v2/transfers/x", True),
        ("uploads-off", "POST", "/v1/imagefile/1", True),
        ("uploads-off", "POST", "//v2/imagefile/1/_multipart", True),
        ("uploads-off", "POST", "/login", False),
        ("uploads-off", "DELETE", "/v1/images/a/b/c", False),
    ],
)
def test_the_modes_close_what_they_say(mode: Mode, method: str, path: str, is_refused: bool) -> None:
    assert refuses(mode, method, path) is is_refused


@pytest.mark.parametrize(
    ("address", "passes"),
    [("10.1.2.3", True), ("10.2.0.1", False), ("::ffff:10.1.0.1", True), ("2001:db8::1", True), ("", False)],
)
def test_listed_addresses_pass(address: str, passes: bool) -> None:
    assert refuses("full", "GET", "/", address=address, allow=("10.1.0.0/16", "2001:db8::/32")) is not passes


def test_an_address_that_a_client_may_have_written_itself_does_not_pass() -> None:
    state = MaintenanceState(allow=parse_networks(["192.0.2.3"]))
    for said, is_refused in (
        (("forwarded", "for=203.0.113.9"), True),
        (("forwarded", "for=192.0.2.3"), False),
    ):
        fields = Fields((("x-forwarded-for", "192.0.2.3"), said))
        behind = resolve_peer("10.0.0.1", "http", fields, Networks(["10.0.0.1"]), Networks())
        assert refusal(state, method="GET", path="/", peer=behind) is is_refused


def test_addresses_of_the_settings_pass_too() -> None:
    state = MaintenanceState()
    assert not refusal(
        state, method="GET", path="/", peer=peer("10.9.9.9"), admin_allow=parse_networks(["10.0.0.0/8"])
    )


def test_without_maintenance_nobody_is_refused() -> None:
    assert not refusal(None, method="POST", path="/upload", peer=peer())


def test_a_range_of_a_blob_is_cut_and_nothing_else() -> None:
    ranged = (("range", "bytes=0-1023"),)
    assert must_cut(head("GET", "/v1/blobs/token", ranged))
    assert not must_cut(head("GET", "/v1/blobs/token"))
    assert not must_cut(head("HEAD", "/v1/blobs/token", ranged))
    assert not must_cut(head("GET", "/v1/imagefile/a/b/c", ranged))


class TestSwitch:
    """The files."""

    def test_it_acts_at_once_on_everybody_and_survives(self, tmp_path: Path) -> None:
        one, other = make_switch(tmp_path), make_switch(tmp_path)
        assert other.current() is None
        state = MaintenanceState(
            mode="read-only", message="Moving.", until=2e9, allow=parse_networks(["::1/128"]), since=1.0
        )
        one.turn_on(state)
        assert other.current() == state
        assert make_switch(tmp_path).current() == state
        one.turn_off()
        assert other.current() is None

    def test_a_change_is_seen(self, tmp_path: Path) -> None:
        switch = make_switch(tmp_path)
        for mode in ("full", "uploads-off", "read-only"):
            switch.turn_on(MaintenanceState(mode=mode))
            current = switch.current()
            assert current is not None
            assert current.mode == mode

    def test_the_flag_file_does_the_same(self, tmp_path: Path) -> None:
        switch = make_switch(tmp_path)
        (tmp_path / "maintenance.flag").write_text("Back at noon.\n")
        assert switch.current() == MaintenanceState(message="Back at noon.")
        (tmp_path / "maintenance.flag").write_text("Back at one o'clock.\n")
        assert switch.current() == MaintenanceState(message="Back at one o'clock.")
        switch.turn_off()
        assert switch.current() is None
        assert not (tmp_path / "maintenance.flag").exists()

    def test_an_empty_flag_file_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "maintenance.flag").touch()
        assert make_switch(tmp_path).current() == MaintenanceState()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"3",
            b'{"until":"noon"}',
            b'{"allow":["x"]}',
            b"\xff",
            b'{"until":1790000000000}',
            b'{"until":1e999}',
            b'{"at":NaN}',
            b'{"since":-1e99}',
            b'{"until":"9999-12-31T23:59:59-05:00"}',
        ],
    )
    def test_a_file_that_cannot_be_understood_closes(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "maintenance.json").write_bytes(content)
        assert make_switch(tmp_path).current() == MaintenanceState()

    def test_the_flag_closes_at_once_whatever_is_planned(self, tmp_path: Path) -> None:
        switch, flag = make_switch(tmp_path), tmp_path / "maintenance.flag"
        plan = MaintenanceState(mode="read-only", at=time.time() + 3600)
        switch.turn_on(plan)
        assert (switch.current(), switch.planned(), switch.coming()) == (None, plan, plan)
        flag.write_text("Now.")
        closed = MaintenanceState(message="Now.")
        assert (switch.current(), switch.planned(), switch.coming()) == (closed, closed, plan)
        assert make_switch(tmp_path).current() == closed
        flag.unlink()
        assert (switch.current(), switch.planned(), switch.coming()) == (None, plan, plan)

    def test_a_command_that_has_begun_wins_over_the_flag(self, tmp_path: Path) -> None:
        switch = make_switch(tmp_path)
        (tmp_path / "maintenance.flag").write_text("Flag.")
        begun = MaintenanceState(mode="read-only", at=time.time() - 1)
        switch.turn_on(begun)
        assert (switch.current(), switch.planned(), switch.coming()) == (begun, begun, None)

    def test_turning_on_leaves_one_file(self, tmp_path: Path) -> None:
        make_switch(tmp_path).turn_on(MaintenanceState())
        assert [path.name for path in tmp_path.iterdir()] == ["maintenance.json"]


def test_a_planned_maintenance_begins_when_its_time_has_come(tmp_path: Path) -> None:
    switch = make_switch(tmp_path)
    later = MaintenanceState(at=time.time() + 3600)
    switch.turn_on(later)
    assert switch.current() is None
    assert switch.planned() == later
    sooner = MaintenanceState(at=time.time() - 1)
    switch.turn_on(sooner)
    assert switch.current() == sooner


def test_a_form_that_was_refused_is_neither_repeated_nor_hidden() -> None:
    answers = MaintenanceAnswers(Settings())
    state = MaintenanceState(mode="uploads-off")
    page = answers.answer(state, head("POST", "/upload", BROWSER), "r").body.decode()
    assert '<meta http-equiv="refresh"' not in page
    assert "Nothing of what you sent was kept" in page
    assert '<meta http-equiv="refresh"' in answers.answer(None, head(fields=BROWSER), "r").body.decode()


def test_until_is_read_with_and_without_an_offset() -> None:
    assert parse_moment("2026-12-01T14:00:00Z") == datetime(2026, 12, 1, 14, tzinfo=UTC).timestamp()
    assert parse_moment("2026-12-01T14:00+02:00") == datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
    assert parse_moment("2026-12-01T14:00") == datetime(2026, 12, 1, 14).astimezone().timestamp()
    assert parse_moment(5) == 5.0


def test_a_beginning_that_a_person_wrote_by_hand_is_a_date_too() -> None:
    assert parse_state(b'{"at":"2099-12-01T14:00:00Z"}').at == parse_moment("2099-12-01T14:00:00Z")


def test_an_unknown_mode_closes_fully() -> None:
    assert parse_state(b'{"mode":"half"}').mode == "full"


class TestAnswers:
    """What is said."""

    settings = made(registry={"name": "Lab <X>", "contact": "help@example.org"})

    def test_programs_get_json(self) -> None:
        reply = MaintenanceAnswers(self.settings).answer(
            MaintenanceState(message="Down until 14:00"), head(), "id1"
        )
        assert reply.status == 503
        assert dict(reply.fields)["content-type"] == "application/json"
        assert dict(reply.fields)["retry-after"] == "30"
        assert dict(reply.fields)["cache-control"] == "no-store"
        assert json.loads(reply.body) == {
            "error": {"code": 503, "message": "The registry is down for maintenance: Down until 14:00."},
            "request_id": "id1",
        }

    def test_browsers_get_a_page_in_which_nothing_is_left_open(self) -> None:
        state = MaintenanceState(message="New <disk>\nBack soon", until=time.time() + 3600)
        reply = MaintenanceAnswers(self.settings).answer(state, head(fields=BROWSER), "id1")
        page = reply.body.decode()
        assert dict(reply.fields)["content-type"].startswith("text/html")
        assert "{{" not in page
        assert "Lab &lt;X&gt;" in page
        assert "New &lt;disk&gt;<br>Back soon" in page
        assert "mailto:help@example.org" in page
        assert "id1" in page

    def test_retry_after_says_the_end_when_it_is_known(self) -> None:
        answers = MaintenanceAnswers(self.settings)
        reply = answers.answer(MaintenanceState(until=time.time() + 600), head(), "r")
        assert 599 <= int(dict(reply.fields)["retry-after"]) <= 601

    def test_retry_after_falls_back_when_the_end_has_passed(self) -> None:
        reply = MaintenanceAnswers(self.settings).answer(MaintenanceState(until=time.time() - 5), head(), "r")
        assert dict(reply.fields)["retry-after"] == "30"

    @pytest.mark.parametrize(
        ("state", "word"),
        [
            (None, "in a moment"),
            (MaintenanceState(mode="read-only"), "read-only"),
            (MaintenanceState(mode="uploads-off"), "Uploads are switched off"),
            (MaintenanceState(), "down for maintenance"),
        ],
    )
    def test_without_a_message_there_is_a_sentence(self, state: MaintenanceState | None, word: str) -> None:
        reply = MaintenanceAnswers(self.settings).answer(state, head(), "r")
        assert word in json.loads(reply.body)["error"]["message"]

    def test_the_one_line_of_programs_says_what_why_and_until_when(self) -> None:
        until = datetime(2099, 12, 1, 14, tzinfo=UTC).timestamp()
        for state, line in (
            (
                MaintenanceState(message="New disks.\nSorry", until=until),
                "The registry is down for maintenance: New disks. Sorry."
                " It is expected back on 1 December 2099 at 14:00 UTC.",
            ),
            (
                MaintenanceState(mode="uploads-off", message="Backup runs!"),
                "Uploads are switched off for maintenance, downloads work: Backup runs!",
            ),
            (
                MaintenanceState(mode="read-only", until=until),
                "The registry is read-only during maintenance, downloads work."
                " It is expected back on 1 December 2099 at 14:00 UTC.",
            ),
        ):
            reply = MaintenanceAnswers(self.settings).answer(state, head(), "r")
            assert json.loads(reply.body)["error"]["message"] == line

    def test_a_contact_that_is_a_url_is_linked_as_it_is(self) -> None:
        settings = made(registry={"contact": "https://help.example.org/?a=1&b=2"})
        page = MaintenanceAnswers(settings).answer(None, head(fields=BROWSER), "r").body.decode()
        assert 'href="https://help.example.org/?a=1&amp;b=2"' in page


def test_the_two_answers_that_clients_need_are_given_without_the_core() -> None:
    settings = made(server={"public_url": "https://r.example.org/"})
    config = static_api_reply("//assets/config/config.prod.json", settings)
    version = static_api_reply("/version", settings)
    assert config is not None
    assert version is not None
    assert json.loads(config.body)["libraryAPI"] == {"uri": "https://r.example.org"}
    assert json.loads(version.body)["data"]["apiVersion"] == "2.0.0-alpha.2"
    assert static_api_reply("/v1/images", settings) is None
