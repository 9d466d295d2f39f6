"""Owns what accounts may rely on: sign-in, sessions, CSRF, throttling, tokens, passwords, on every database."""

import pytest

from gateway.errors import BadForm, Conflict, Forbidden, NotFound, TooManyRequests, Unauthorized
from registry_core.policy import Actor, Scope
from registry_core.service import accounts, identity
from tests.contract.conftest import OpenCore
from tests.support.core import Core

PASSWORD = "correct horse"
ADDRESS = "203.0.113.9"


@pytest.fixture
def carol(core: Core) -> str:
    """The cookie header of a user who is signed in."""
    accounts.add_user(core.registry, name="carol", password=PASSWORD, by="test")
    return sign_in(core)


def sign_in(core: Core, password: str = PASSWORD, name: str = "carol") -> str:
    signed = identity.sign_in(core.registry, name=name, password=password, address=ADDRESS)
    return f"other=1; {identity.SESSION_COOKIE}={signed.cookie}"


def actor(core: Core, cookie: str) -> Actor:
    found = identity.authenticate(core.registry, authorization="", cookie=cookie)
    assert found is not None
    return found


def test_a_session_is_its_user_until_it_ends(core: Core, carol: str) -> None:
    me = actor(core, carol)
    assert (me.name, me.scope, bool(me.csrf)) == ("carol", Scope.ADMIN, True)
    identity.sign_out(core.registry, me)
    assert identity.authenticate(core.registry, authorization="", cookie=carol) is None
    again = sign_in(core)
    core.clock.at += core.registry.settings.registry.session_s
    assert identity.authenticate(core.registry, authorization="", cookie=again) is None


@pytest.mark.parametrize(
    "cookie", ["", "registry_session=", "registry_session=forged", "registry_session", "=;=;"]
)
def test_other_cookies_are_nobody(core: Core, cookie: str) -> None:
    assert identity.authenticate(core.registry, authorization="", cookie=cookie) is None


def test_a_browser_must_send_its_csrf_token(core: Core, carol: str) -> None:
    refused = core.call("POST", "/v1/entities", {"name": "carol"}, cookie=carol)
    assert refused.status == 403
    csrf = actor(core, carol).csrf
    assert core.call("POST", "/v1/entities", {"name": "carol"}, cookie=carol, x_csrf_token=csrf).status == 200
    assert core.call("GET", "/v1/entities/carol", cookie=carol).status == 200
    assert core.ask(collection="carol/test", cookie=carol).status == 403
    assert core.ask(collection="carol/test", cookie=carol, csrf_token=csrf).status == 200


def test_wrong_passwords_slow_down_and_say_nothing(core: Core, carol: str) -> None:
    assert carol
    for name in ("carol", "nobody-at-all"):
        with pytest.raises(Unauthorized, match="name or the password"):
            sign_in(core, "wrong", name)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            sign_in(core, "wrong")
    with pytest.raises(TooManyRequests) as refused:
        sign_in(core)
    assert refused.value.retry_after_s
    core.clock.at += refused.value.retry_after_s
    assert sign_in(core)


def test_an_address_that_guesses_many_names_is_slowed_down(core: Core) -> None:
    with pytest.raises(TooManyRequests):
        for number in range(40):
            with pytest.raises(Unauthorized):
                sign_in(core, "wrong", f"name{number}")


def test_a_changed_password_ends_other_sessions(core: Core, carol: str) -> None:
    other = sign_in(core)
    with pytest.raises(Unauthorized):
        accounts.change_password(core.registry, actor(core, carol), old="wrong", new="another horse")
    with pytest.raises(BadForm):
        accounts.change_password(core.registry, actor(core, carol), old=PASSWORD, new="short")
    accounts.change_password(core.registry, actor(core, carol), old=PASSWORD, new="another horse")
    assert actor(core, carol).name == "carol"
    assert identity.authenticate(core.registry, authorization="", cookie=other) is None
    with pytest.raises(Unauthorized):
        sign_in(core)
    assert sign_in(core, "another horse")


def test_disabled_accounts_and_robots_cannot_sign_in(core: Core, carol: str) -> None:
    token = core.token("carol", scope="push")
    assert core.call("GET", "/v1/entities", token=token).status == 200
    accounts.change_user(core.registry, name="carol", disabled=True, by="test")
    assert core.call("GET", "/v1/entities", token=token).status == 401
    assert identity.authenticate(core.registry, authorization="", cookie=carol) is None
    with pytest.raises(Unauthorized):
        sign_in(core)
    accounts.add_user(core.registry, name="robot", password=None, robot=True, by="test")
    with pytest.raises(Unauthorized):
        sign_in(core, "", "robot")


def test_tokens_are_listed_used_and_revoked(core: Core, carol: str) -> None:
    me = actor(core, carol)
    made = accounts.create_own_token(core.registry, me, scope="pull", days=30, label="laptop")
    assert core.call("GET", "/v1/entities", token=made.secret).status == 200
    (listed,) = accounts.own_tokens(core.registry, me)
    assert (listed.label, listed.scope, listed.last_used_at) == ("laptop", "pull", core.registry.now)
    assert made.secret.startswith(listed.hint)
    assert made.secret not in repr(listed)
    alice = identity.actor_of_token(core.registry, core.tokens["alice"])
    with pytest.raises(Forbidden):
        accounts.revoke_own_token(core.registry, alice, made.id)
    root = identity.actor_of_token(core.registry, core.tokens["root"])
    with pytest.raises(NotFound):
        accounts.revoke_own_token(core.registry, root, made.id)
    accounts.revoke_own_token(core.registry, me, made.id)
    assert core.call("GET", "/v1/entities", token=made.secret).status == 401


def test_a_weak_token_makes_no_stronger_one(core: Core) -> None:
    alice = identity.actor_of_token(core.registry, core.tokens["alice"])
    with pytest.raises(Forbidden):
        accounts.create_own_token(core.registry, alice, scope="admin", days=None, label="")
    with pytest.raises(Unauthorized):
        accounts.create_own_token(core.registry, None, scope="pull", days=None, label="")
    with pytest.raises(BadForm):
        accounts.create_token(
            core.registry, user=accounts.find_user(core.registry, "alice"), scope="all", days=1, by="t"
        )


def test_last_use_is_written_at_most_once_a_minute(core: Core) -> None:
    def last_used() -> int | None:
        return accounts.tokens_of(core.registry, "alice")[0].last_used_at

    core.call("GET", "/v1/entities", by="alice")
    first = last_used()
    core.clock.at += 30
    core.call("GET", "/v1/entities", by="alice")
    assert last_used() == first
    core.clock.at += 31
    core.call("GET", "/v1/entities", by="alice")
    assert last_used() == core.registry.now


def test_a_name_is_given_once(core: Core) -> None:
    with pytest.raises(Conflict):
        accounts.add_user(core.registry, name="Alice", password=PASSWORD, by="test")
    with pytest.raises(BadForm):
        accounts.add_user(core.registry, name="no good", password=PASSWORD, by="test")


def test_an_account_that_goes_leaves_its_images(core: Core) -> None:
    assert core.upload(b"x" * 10, by="alice", collection="alice/test").status == 200
    accounts.remove_user(core.registry, name="alice", by="test")
    assert core.call("GET", "/v1/images/alice/test/tool:latest").status == 200
    assert core.call("GET", "/v1/entities", by="alice").status == 401


def test_a_token_that_asks_without_end_is_told_to_wait(new_core: OpenCore) -> None:
    core = new_core(token_requests_per_s=0.1)
    core.add_user("alice")
    replies = [core.call("GET", "/v1/token-status", by="alice") for _ in range(9)]
    assert replies[0].status == 200
    assert replies[-1].status == 429
    assert int(replies[-1].headers["retry-after"]) > 0
    assert replies[-1].message
    assert core.call("GET", "/version", by="alice").status == 200
    assert core.call("GET", "/v1/search?value=abc").status == 200


def test_guessing_tokens_is_counted_by_address(new_core: OpenCore) -> None:
    core = new_core(address_requests_per_s=1)
    statuses = [
        core.call("GET", "/v1/search?value=abc", token=f"guess{number}").status for number in range(8)
    ]
    assert (statuses[0], statuses[-1]) == (401, 429)


def test_guessing_at_the_token_status_is_counted_too(new_core: OpenCore) -> None:
    """It answers 404, which is what clients want there; it is a guess all the same."""
    core = new_core(address_requests_per_s=1)
    statuses = [core.call("GET", "/v1/token-status", token=f"guess{number}").status for number in range(8)]
    assert (statuses[0], statuses[-1]) == (404, 429)


def test_a_clock_that_is_set_back_locks_nobody_out(core: Core) -> None:
    for _ in range(8):
        with pytest.raises((Unauthorized, TooManyRequests)):
            identity.sign_in(core.registry, name="alice", password="wrong", address="192.0.2.1")
    with pytest.raises(TooManyRequests):
        identity.check_pause(core.registry, name="alice", address="192.0.2.1")
    core.clock.at -= 86_400
    identity.check_pause(core.registry, name="alice", address="192.0.2.1")
