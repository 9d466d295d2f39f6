"""Owns signing in elsewhere: with a real OpenID Connect provider, and behind a forward-auth proxy."""

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from oidc_provider_mock import User, run_server_in_thread

from registry_core.service import accounts, identity
from tests.contract.conftest import OpenCore
from tests.support.core import Core, Reply

SUBJECTS = (
    User(
        sub="u-1", claims={"preferred_username": "Jane.Doe", "email": "jane@example.org", "name": "Jane Doe"}
    ),
    User(sub="u-2", claims={"preferred_username": "alice"}),
)


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """A provider that lets everybody in who says who they are."""
    with run_server_in_thread(user_claims=SUBJECTS, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def core(new_core: OpenCore, issuer: str, tmp_path: Path) -> Core:
    secret = tmp_path / "client.secret"
    secret.write_text("very secret\n")
    made = new_core(oidc_issuer=issuer, oidc_client_id="registry", oidc_client_secret_file=secret)
    made.clock.at = time.time()
    made.add_user("alice")
    return made


def cookies_of(reply: Reply) -> dict[str, str]:
    pairs = [line.split(";")[0].split("=", 1) for line in reply.all("set-cookie")]
    return {pair[0]: pair[1].strip('"') for pair in pairs}


def consent(address: str, subject: str) -> str:
    """What the user does at the provider; the query that comes back."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    form = urlencode({"sub": subject} if subject else {"action": "deny"})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    connection.request("POST", f"{parts.path}?{parts.query}", form, headers)
    location = connection.getresponse().getheader("location") or ""
    connection.close()
    assert location.startswith("https://registry.example/login/oidc/callback?")
    return urlsplit(location).query


def sign_in(core: Core, subject: str, *, back: str = "/") -> Reply:
    begun = core.call("GET", f"/login/oidc?next={back}")
    assert begun.status == 303
    cookie = "; ".join(f"{name}={value}" for name, value in cookies_of(begun).items())
    query = consent(begun.headers["location"], subject)
    return core.call("GET", f"/login/oidc/callback?{query}", cookie=cookie)


def name_of(core: Core, reply: Reply) -> str:
    cookie = f"{identity.SESSION_COOKIE}={cookies_of(reply)[identity.SESSION_COOKIE]}"
    actor = identity.authenticate(core.registry, authorization="", cookie=cookie)
    assert actor is not None
    return actor.name


def test_the_first_sign_in_makes_an_account_and_the_second_finds_it(core: Core) -> None:
    first = sign_in(core, "u-1", back="/collections")
    assert (first.status, first.headers["location"]) == (303, "/collections")
    assert name_of(core, first) == "jane.doe"
    user = accounts.find_user(core.registry, "jane.doe")
    assert (user.email, user.real_name, user.admin) == ("jane@example.org", "Jane Doe", False)
    assert name_of(core, sign_in(core, "u-1")) == "jane.doe"
    assert len(accounts.all_users(core.registry)) == 2


def test_a_name_that_is_taken_is_not_taken_over(core: Core) -> None:
    refused = sign_in(core, "u-2")
    assert refused.status == 409
    assert "set-cookie" not in refused.headers


def test_a_disabled_account_stays_out(core: Core) -> None:
    sign_in(core, "u-1")
    accounts.change_user(core.registry, name="jane.doe", disabled=True, by="test")
    assert sign_in(core, "u-1").status == 403


def test_who_is_refused_there_is_refused_here(core: Core) -> None:
    assert sign_in(core, "").status == 403


def test_only_what_was_begun_here_is_finished(core: Core) -> None:
    begun = core.call("GET", "/login/oidc")
    query = consent(begun.headers["location"], "u-1")
    cookie = f"registry_oidc={cookies_of(begun)['registry_oidc']}"
    assert core.call("GET", f"/login/oidc/callback?{query}").status == 403
    other = core.call("GET", "/login/oidc")
    foreign = f"registry_oidc={cookies_of(other)['registry_oidc']}"
    assert core.call("GET", f"/login/oidc/callback?{query}", cookie=foreign).status == 403
    assert core.call("GET", f"/login/oidc/callback?{query}", cookie=cookie + "0").status == 403
    core.clock.at += 601
    assert core.call("GET", f"/login/oidc/callback?{query}", cookie=cookie).status == 403


def test_a_code_is_good_once(core: Core) -> None:
    begun = core.call("GET", "/login/oidc")
    query = consent(begun.headers["location"], "u-1")
    cookie = f"registry_oidc={cookies_of(begun)['registry_oidc']}"
    assert core.call("GET", f"/login/oidc/callback?{query}", cookie=cookie).status == 303
    assert core.call("GET", f"/login/oidc/callback?{query}", cookie=cookie).status == 502


def test_the_request_carries_state_nonce_and_a_hashed_verifier(core: Core) -> None:
    asked = parse_qs(urlsplit(core.call("GET", "/login/oidc").headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == ["https://registry.example/login/oidc/callback"]
    assert len(asked["state"][0]) >= 32
    assert len(asked["nonce"][0]) >= 32


def test_a_proxy_with_the_secret_names_the_user(new_core: OpenCore, tmp_path: Path) -> None:
    secret = tmp_path / "proxy.secret"
    secret.write_text("between us\n")
    core = new_core(sign_in_header="X-Remote-User", sign_in_secret_file=secret)
    core.add_user("alice")
    said = {"X_Remote_User": "alice", "X_Sign_In_Secret": "between us"}
    done = core.call("GET", "/login/header?next=/upload", **said)
    assert (done.status, done.headers["location"]) == (303, "/upload")
    assert name_of(core, done) == "alice"
    assert (
        name_of(core, core.call("GET", "/login/header", **{**said, "X_Remote_User": "New.One@x.org"}))
        == "new.one"
    )
    for wrong in ({"X_Sign_In_Secret": "guess"}, {"X_Sign_In_Secret": ""}, {"X_Remote_User": ""}):
        assert core.call("GET", "/login/header", **{**said, **wrong}).status == 403


def test_without_settings_there_is_nothing(new_core: OpenCore) -> None:
    core = new_core()
    for path in ("/login/oidc", "/login/oidc/callback?code=x&state=y", "/login/header"):
        assert core.call("GET", path, X_Remote_User="root", X_Sign_In_Secret="").status == 404


@pytest.mark.parametrize("said", ["root!", "root.", "-root", "ro ot", "r\u00f6ot"])
def test_a_proxy_names_an_account_as_it_is_called_or_none(
    new_core: OpenCore, tmp_path: Path, said: str
) -> None:
    """A name that is repaired could become another one's."""
    secret = tmp_path / "proxy.secret"
    secret.write_text("between us\n")
    core = new_core(sign_in_header="X-Remote-User", sign_in_secret_file=secret)
    core.add_user("root", admin=True)
    refused = core.call("GET", "/login/header", X_Remote_User=said, X_Sign_In_Secret="between us")
    assert refused.status == 400
    assert "set-cookie" not in refused.headers
    other = core.call("GET", "/login/header", X_Remote_User="root.sif", X_Sign_In_Secret="between us")
    assert name_of(core, other) == "root.sif"
