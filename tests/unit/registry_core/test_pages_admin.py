"""Owns what must hold of the administrator's pages: only for administrators, and true."""

import re
from datetime import UTC, datetime
from typing import Final

import pytest

from gateway.maintenance import MaintenanceSwitch
from tests.support.core import Core
from tests.support.visitor import PASSWORD, Visitor, add_person

PAGES: Final = ("/admin", "/admin/users", "/admin/maintenance", "/admin/audit")


def password_on(html: str) -> str:
    found = re.search(r"<code>([\w-]{16})</code>", html)
    assert found
    return found[1]


@pytest.mark.parametrize("path", PAGES)
def test_only_administrators_see_it(core: Core, path: str) -> None:
    root, alice = add_person(core, "root", admin=True), add_person(core, "alice")
    assert root.get(path).status == 200
    assert alice.get(path).status == 403
    assert Visitor(core).get(path).location.startswith("/login")
    assert "/admin" not in alice.get("/").links


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/admin/users", {"do": "add", "name": "eve", "admin": "1"}),
        ("/admin/users", {"do": "reset", "name": "root"}),
        ("/admin/users", {"do": "promote", "name": "alice"}),
        ("/admin/maintenance", {"do": "on", "mode": "full"}),
        ("/admin/maintenance", {"do": "off"}),
    ],
)
def test_nobody_else_can_send_its_forms(core: Core, path: str, fields: dict[str, str]) -> None:
    add_person(core, "root", admin=True)
    alice = add_person(core, "alice")
    assert alice.post(path, csrf=alice.get("/").csrf, **fields).status == 403
    assert Visitor(core).post(path, csrf="", **fields).status == 303
    assert not (core.registry.settings.data_dir / "maintenance.json").exists()
    assert alice.get("/admin").status == 403


def test_a_new_account_gets_a_password_that_is_shown_once(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    made = root.post("/admin/users", do="add", name="eve", email="eve@example.org")
    password = password_on(made.html)
    assert password not in root.get("/admin/users").html
    eve = Visitor(core).sign_in("eve", password=password)
    assert eve.get("/admin").status == 403
    assert "There is a user &#39;eve&#39; already" in root.post("/admin/users", do="add", name="eve").html


def test_a_new_password_ends_the_sessions_of_its_user(core: Core) -> None:
    root, alice = add_person(core, "root", admin=True), add_person(core, "alice")
    password = password_on(root.post("/admin/users", do="reset", name="alice").html)
    assert alice.get("/account").status == 303
    Visitor(core).sign_in("alice", password=password)


def test_a_disabled_account_is_out_at_once(core: Core) -> None:
    root, alice = add_person(core, "root", admin=True), add_person(core, "alice")
    root.submit("/admin/users", do="disable", name="alice")
    assert alice.get("/account").status == 303
    assert Visitor(core).post("/login", name="alice", password=PASSWORD).status == 403
    root.submit("/admin/users", do="enable", name="alice")
    Visitor(core).sign_in("alice")


@pytest.mark.parametrize("do", ["disable", "demote", "remove"])
def test_administrators_cannot_lock_themselves_out(core: Core, do: str) -> None:
    root = add_person(core, "root", admin=True)
    assert root.post("/admin/users", do=do, name="Root").status == 403
    assert root.get("/admin").status == 200


def test_rights_are_given_and_taken(core: Core) -> None:
    root, alice = add_person(core, "root", admin=True), add_person(core, "alice")
    root.submit("/admin/users", do="promote", name="alice")
    assert alice.get("/admin").status == 200
    root.submit("/admin/users", do="demote", name="alice")
    assert alice.get("/admin").status == 403


def test_unknown_wishes_and_people_are_told(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    assert root.post("/admin/users", do="fly", name="x").status == 400
    assert root.post("/admin/users", do="disable", name="nobody").status == 404


def test_the_overview_counts_equal_bytes_once(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    add_person(core, "alice")
    core.upload(bytes(2048), by="alice", collection="alice/one")
    core.upload(bytes(2048), by="alice", collection="alice/two")
    core.store.create("f00d-running-upload", size_hint=None).write(b"x" * 10)
    text = root.get("/admin").text
    assert "2 images" in text
    assert "2.0 KiB stored" in text
    assert "2.0 KiB saved by sharing" in text
    assert "alice alice 2 4.0 KiB" in text
    assert "f00d-running-upload" in text
    assert "running" in text


def test_the_overview_is_there_while_the_store_is_not(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    core.store.down = True
    shown = root.get("/admin")
    assert shown.status == 200
    assert "The store cannot be used" in shown.text


def test_the_gateway_reads_the_maintenance_that_is_begun_here(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    switch = MaintenanceSwitch(core.registry.settings.data_dir)
    assert switch.current() is None
    shown = root.submit(
        "/admin/maintenance", do="on", mode="full", message="New disks <soon>", hours="2",
        allow="203.0.113.9, 192.0.2.0/24",
    )  # fmt: skip
    state = switch.current()
    assert state is not None
    assert (state.mode, state.message, state.until) == ("full", "New disks <soon>", core.clock() + 7200)
    assert [str(network) for network in state.allow] == ["203.0.113.9/32", "192.0.2.0/24"]
    assert state.since == core.clock()
    assert "It is on" in shown.text
    assert "New disks &lt;soon&gt;" in shown.html
    root.submit("/admin/maintenance", do="off")
    assert switch.current() is None
    assert "registry is open" in root.get("/admin/maintenance").text


def test_the_page_reads_the_maintenance_that_the_command_began(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    folder = core.registry.settings.data_dir
    (folder / "maintenance.flag").write_text("")
    assert "It is on" in root.get("/admin/maintenance").text
    root.submit("/admin/maintenance", do="off")
    (folder / "maintenance.json").write_text('{"mode": "read-only", "until": "2027-01-15T08:00:00+00:00"}')
    assert "nothing can be changed" in root.get("/admin/maintenance").text
    assert "2027-01-15 08:00 UTC" in root.get("/admin/maintenance").html
    odd_times = ('{"until": 1790000000000}', '{"at": 1e999}', '{"since": NaN}', '{"until": "noon"}')
    for broken in ("{", "[1]", '{"allow": 7, "since": "x", "until": "soon"}', *odd_times):
        (folder / "maintenance.json").write_text(broken)
        assert "It is on" in root.get("/admin/maintenance").text


def test_a_flag_closes_at_once_and_the_plan_is_there_when_it_is_gone(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    flag = core.registry.settings.data_dir / "maintenance.flag"
    begin = datetime.fromtimestamp(core.registry.now + 7200, UTC)
    root.submit(
        "/admin/maintenance", do="on", mode="full", at=begin.strftime("%Y-%m-%dT%H:%M"), message="Plan."
    )
    assert "It is planned" in root.get("/admin/maintenance").text
    flag.write_text("Flag.")
    shown = root.get("/admin/maintenance").text
    assert "It is on" in shown
    assert "Flag." in shown
    flag.unlink()
    assert "It is planned" in root.get("/admin/maintenance").text


def test_a_planned_maintenance_is_announced_on_every_page_and_begins_by_itself(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    switch = MaintenanceSwitch(core.registry.settings.data_dir)
    begin = datetime.fromtimestamp(core.registry.now + 7200, UTC)
    shown = root.submit(
        "/admin/maintenance", do="on", mode="full", message="New <disks>.", hours="2",
        at=begin.strftime("%Y-%m-%dT%H:%M"),
    )  # fmt: skip
    assert "It is planned" in shown.text
    state = switch.planned()
    assert state is not None
    assert (state.at, state.until) == (begin.timestamp() // 60 * 60, begin.timestamp() // 60 * 60 + 7200)
    page = Visitor(core).get("/collections")
    assert f"Maintenance from {begin:%Y-%m-%d %H:%M} UTC to" in page.text
    assert "New &lt;disks&gt;." in page.html
    assert "will not be available then" in page.text
    core.clock.at += 7200
    assert "other visitors see the maintenance page" in root.get("/").text
    root.submit("/admin/maintenance", do="off")
    assert "Maintenance" not in Visitor(core).get("/collections").text
    assert "Maintenance" not in Visitor(core).get("/login").text


def test_what_is_closed_in_part_is_said_on_the_pages_that_are_open(core: Core) -> None:
    folder = core.registry.settings.data_dir
    for mode, said in (("read-only", "be uploaded or changed."), ("uploads-off", "be uploaded.")):
        (folder / "maintenance.json").write_text(f'{{"mode": "{mode}", "message": "Moving."}}')
        shown = " ".join(Visitor(core).get("/collections").text.split())
        assert f"Maintenance: Moving. Pulling goes on; nothing can {said}" in shown


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "half"},
        {"mode": "full", "hours": "3"},
        {"mode": "full", "allow": "here"},
        {"mode": "full", "at": "soon"},
        {"mode": "full", "at": "2001-01-01T00:00"},
        {"mode": "full", "at": "9999-12-31T23:59", "hours": "2"},
    ],
)
def test_a_maintenance_that_cannot_be_is_refused_with_a_sentence(core: Core, fields: dict[str, str]) -> None:
    root = add_person(core, "root", admin=True)
    answered = root.post("/admin/maintenance", do="on", **fields)
    assert answered.status == 400
    assert 'role="alert"' in answered.html
    assert not (core.registry.settings.data_dir / "maintenance.json").exists()


def test_the_audit_log_tells_what_was_done_and_goes_back_in_time(core: Core) -> None:
    root = add_person(core, "root", admin=True)
    alice = add_person(core, "alice")
    for number in range(55):
        alice.post("/collections", csrf=alice.get("/").csrf, entity="alice", name=f"c{number}")
        alice.submit(f"/collections/alice/c{number}", do="privacy", private="1")
    newest = root.get("/admin/audit")
    assert "collection.change" in newest.text
    older = root.get(next(link for link in newest.links if "before=" in link))
    assert "user.add" in older.text
    assert "alice/c54" not in older.text
