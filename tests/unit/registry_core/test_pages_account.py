"""Owns what must hold of signing in and out, tokens and the account."""

import re
from typing import Final

import pytest

from registry_core.routes.pages_sign_in import local_path
from registry_core.service import identity
from tests.support.core import Core
from tests.support.visitor import PASSWORD, Visitor, add_person
from tests.unit.registry_core.conftest import OpenCore


def test_who_signs_in_is_led_back_to_where_they_were(core: Core) -> None:
    add_person(core, "alice")
    visitor = Visitor(core)
    led = visitor.get("/upload?collection=alice/test")
    assert (led.status, led.location) == (303, "/login?next=%2Fupload%3Fcollection%3Dalice%2Ftest")
    answered = visitor.post(
        "/login", csrf=visitor.get(led.location).csrf, name="alice", password=PASSWORD,
        next="/upload?collection=alice/test",
    )  # fmt: skip
    assert (answered.status, answered.location) == (303, "/upload?collection=alice/test")
    assert 'value="alice/test"' in visitor.get(answered.location).html


@pytest.mark.parametrize(
    "text",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a\r\nx: y",
     "\t//evil", "/" + "a" * 3000],
)  # fmt: skip
def test_nobody_is_led_away_from_the_site(text: str) -> None:
    assert local_path(text) == "/"


def test_the_session_cookie_is_out_of_reach_of_scripts_and_of_plain_http(core: Core) -> None:
    add_person(core, "alice")
    visitor = Visitor(core)
    answered = visitor.post("/login", name="alice", password=PASSWORD)
    cookie = next(line for line in answered.set_cookies if line.startswith("registry_session="))
    for part in ("HttpOnly", "SameSite=lax", "Secure", "Path=/", "Max-Age=1209600"):
        assert part in cookie
    assert "domain" not in cookie.lower()


def test_a_wrong_password_is_told_in_the_same_words_as_a_wrong_name(core: Core) -> None:
    add_person(core, "alice")
    visitor = Visitor(core)
    texts = set()
    for name in ("alice", "nobody"):
        answered = visitor.post("/login", name=name, password="not this one")
        assert answered.status == 403
        texts.add(answered.text)
    assert len(texts) == 1
    assert "The name or the password is wrong." in texts.pop()
    assert "registry_session" not in visitor.cookies


def test_who_guesses_has_to_wait(core: Core) -> None:
    add_person(core, "alice")
    visitor = Visitor(core)
    statuses = [visitor.post("/login", name="alice", password="guess").status for _ in range(7)]
    assert statuses[0] == 403
    assert statuses[-1] == 429
    assert visitor.post("/login", name="alice", password=PASSWORD).status == 429
    core.clock.at += 120
    assert visitor.post("/login", name="alice", password=PASSWORD).status == 303


def test_a_sign_in_form_of_another_site_is_refused(core: Core) -> None:
    add_person(core, "alice")
    visitor = Visitor(core)
    assert visitor.post("/login", csrf="", name="alice", password=PASSWORD).status == 403
    token = Visitor(core).get("/login").csrf
    assert visitor.post("/login", csrf=token, name="alice", password=PASSWORD).status == 403
    visitor.get("/login")
    assert visitor.post("/login", csrf=token, name="alice", password=PASSWORD).status == 403
    assert "registry_session" not in visitor.cookies


def test_signing_out_ends_the_session_on_the_server(core: Core) -> None:
    alice = add_person(core, "alice")
    kept = dict(alice.cookies)
    answered = alice.post("/logout", csrf=alice.get("/").csrf)
    assert answered.status == 303
    assert "registry_session" not in alice.cookies
    alice.cookies = kept
    assert alice.get("/account").location.startswith("/login")


def test_signing_out_needs_the_form(core: Core) -> None:
    alice = add_person(core, "alice")
    assert alice.post("/logout", csrf="").status == 403
    assert alice.get("/logout").status == 405
    assert alice.get("/account").status == 200


def test_a_session_ends_by_itself(core: Core) -> None:
    alice = add_person(core, "alice")
    core.clock.at += 1_209_601
    assert alice.get("/account").status == 303


def token_on(html: str) -> str:
    found = re.search(r"sgr_[\w-]{100,}", html)
    assert found
    return found[0]


def test_a_token_is_shown_once_and_works(core: Core) -> None:
    alice = add_person(core, "alice")
    made = alice.post("/tokens", label="laptop", scope="push", days="30")
    token = token_on(made.html)
    assert made.headers["cache-control"] == "no-store"
    assert token not in alice.get("/tokens").html
    assert token[:10] in alice.get("/tokens").html
    assert core.call("GET", "/v1/token-status", token=token).data == {"username": "alice", "scope": "push"}
    core.clock.at += 31 * 86_400
    assert core.call("GET", "/v1/token-status", token=token).status == 404


def test_a_revoked_token_no_longer_works(core: Core) -> None:
    alice = add_person(core, "alice")
    token = token_on(alice.post("/auth/tokens", label="ci", scope="pull", days="0").html)
    page = alice.get("/tokens").html
    ids = re.findall(r'name="id" value="(\d+)"', page)
    assert "revoked" in alice.submit("/tokens", do="revoke", id=ids[0]).text
    assert core.call("GET", "/v1/token-status", token=token).status == 404


def test_nobody_revokes_the_token_of_somebody_else(core: Core) -> None:
    alice, bob = add_person(core, "alice"), add_person(core, "bob")
    token = token_on(alice.post("/tokens", label="ci", scope="pull", days="0").html)
    token_id = re.findall(r'name="id" value="(\d+)"', alice.get("/tokens").html)[0]
    answered = bob.post("/tokens", do="revoke", id=token_id)
    assert answered.status == 404
    assert core.call("GET", "/v1/token-status", token=token).status == 200


@pytest.mark.parametrize("fields", [{"scope": "root", "days": "7"}, {"scope": "pull", "days": "8"}, {}])
def test_a_token_that_cannot_be_is_refused_with_a_sentence(core: Core, fields: dict[str, str]) -> None:
    answered = add_person(core, "alice").post("/tokens", label="x", **fields)
    assert answered.status == 400
    assert 'role="alert"' in answered.html


def test_the_page_that_clients_name_is_the_page_of_tokens(core: Core) -> None:
    alice = add_person(core, "alice")
    assert "Access tokens" in alice.get("/auth/tokens").text
    assert Visitor(core).get("/auth/tokens").location == "/login?next=%2Fauth%2Ftokens"


def test_a_new_password_ends_all_other_sessions(core: Core) -> None:
    alice = add_person(core, "alice")
    elsewhere = Visitor(core).sign_in("alice")
    new = "a much better password"
    shown = alice.submit("/account", old=PASSWORD, new=new, again=new)
    assert "password is changed" in shown.text
    assert alice.get("/account").status == 200
    assert elsewhere.get("/account").status == 303
    Visitor(core).sign_in("alice", password=new)


CHANGES: Final = (
    ({"old": "wrong", "new": "long enough", "again": "long enough"}, "old password is wrong"),
    ({"old": PASSWORD, "new": "long enough", "again": "different"}, "passwords differ"),
    ({"old": PASSWORD, "new": "short", "again": "short"}, "8 to 1,024"),
)


@pytest.mark.parametrize(("fields", "told"), CHANGES)
def test_a_password_that_cannot_be_changed_comes_back_with_a_sentence(
    core: Core, fields: dict[str, str], told: str
) -> None:
    alice = add_person(core, "alice")
    answered = alice.post("/account", **fields)
    assert answered.status == 400
    assert told in answered.text
    Visitor(core).sign_in("alice")


def test_a_closed_registry_has_no_way_to_sign_up(core: Core) -> None:
    visitor = Visitor(core)
    assert visitor.get("/signup").status == 404
    assert "/signup" not in visitor.get("/").links
    token = visitor.get("/login").csrf
    sent = {"name": "eve", "password": PASSWORD, "again": PASSWORD}
    assert visitor.post("/signup", csrf=token, **sent).status == 404


def test_an_open_registry_lets_people_sign_up(new_core: OpenCore) -> None:
    core = new_core(accounts="open")
    visitor = Visitor(core)
    assert "/signup" in visitor.get("/").links
    answered = visitor.post("/signup", name="Eve", password=PASSWORD, again=PASSWORD, email="e@example.org")
    assert answered.location == "/"
    assert "eve" in visitor.get("/account").text
    again = Visitor(core).post("/signup", name="eve", password=PASSWORD, again=PASSWORD)
    assert (again.status, "is taken" in again.text) == (409, True)


def test_nobody_signs_up_into_an_entity_that_outlived_its_owner(new_core: OpenCore) -> None:
    core = new_core(accounts="open")
    root, _alice = add_person(core, "root", admin=True), add_person(core, "alice")
    core.upload(b"bytes", by="alice", collection="alice/test")
    root.submit("/admin/users", do="disable", name="alice")
    root.submit("/admin/users", do="remove", name="alice")
    assert Visitor(core).post("/signup", name="alice", password=PASSWORD, again=PASSWORD).status == 409


def test_one_address_cannot_make_accounts_by_the_thousand(new_core: OpenCore) -> None:
    core = new_core(accounts="open")
    add_person(core, "alice")
    for number in range(20):
        identity.note_failure(core.registry, name=f"sign-up x{number}", address="sign-up 203.0.113.9")

    def sign_up(name: str, address: str) -> int:
        fields = {"name": name, "password": PASSWORD, "again": PASSWORD}
        return Visitor(core, address=address).post("/signup", **fields).status

    assert sign_up("eve", "203.0.113.9") == 303
    assert sign_up("mallory", "203.0.113.9") == 429
    assert sign_up("mallory", "203.0.113.10") == 303
    Visitor(core, address="203.0.113.9").sign_in("alice")


def test_the_sign_in_page_offers_the_ways_that_are_set_up(new_core: OpenCore) -> None:
    core = new_core(
        oidc_issuer="https://id.example", oidc_client_id="registry", oidc_name="<Example> Login",
        sign_in_header="X-User", sign_in_secret_file="/nowhere",
    )  # fmt: skip
    shown = Visitor(core).get("/login?next=/upload%3Fx%3D1")
    assert "/login/oidc?next=/upload%3Fx%3D1" in shown.links
    assert "/login/header?next=/upload%3Fx%3D1" in shown.links
    assert "Sign in with &lt;Example&gt; Login" in shown.html


def test_the_sign_in_page_offers_only_the_password_otherwise(core: Core) -> None:
    assert not [link for link in Visitor(core).get("/login").links if link.startswith("/login/")]


def test_who_signs_in_elsewhere_has_no_password_to_change(core: Core) -> None:
    alice = add_person(core, "alice")
    with core.registry.database.write() as db:
        db.exec_driver_sql("UPDATE users SET password = ''")
    shown = alice.get("/account")
    assert "You sign in elsewhere" in shown.text
    assert 'name="old"' not in shown.html
