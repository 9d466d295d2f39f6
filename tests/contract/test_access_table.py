"""Owns the table of every route and everybody who may come there: who gets what of a private collection.

A route that is not in the table fails the test, so that nobody adds one without deciding this.
"""

import hashlib
from typing import Any, Final

import pytest
from starlette.routing import Route

from registry_core.service import accounts, identity, stewardship
from registry_core.service.identity import SESSION_COOKIE
from tests.contract.conftest import OpenCore
from tests.contract.test_permissions import actor_of
from tests.support.core import Core, Reply
from tests.support.library_push import push

CONTENT: Final = b"a secret image"
HASH: Final = f"sha256.{hashlib.sha256(CONTENT).hexdigest()}"
PLACE: Final = "alice/veiled/tool"
# Strangers of every kind; a token that is not good is refused as such (401) before anything else.
STRANGERS: Final = ("nobody", "bob", "bob's browser")
BAD_TOKENS: Final = ("revoked", "expired", "made up")
READERS: Final = ("reader", "alice's pull token")

# What shows something of the private collection: method, path, body.
READS: Final = (
    ("GET", "/v1/images/{ref:path}", f"/v1/images/{PLACE}:v1"),
    ("GET", "/v1/images/{ref:path}", f"/v1/images/{PLACE}:{HASH}"),
    ("GET", "/v1/imagefile/{ref:path}", f"/v1/imagefile/{PLACE}:v1"),
    ("HEAD", "/v1/imagefile/{ref:path}", f"/v1/imagefile/{PLACE}:{HASH}"),
    ("GET", "/v2/tags/{container_id}", "/v2/tags/{container}"),
    ("GET", "/v1/tags/{container_id}", "/v1/tags/{container}"),
    ("GET", "/v1/entities/{name}", "/v1/entities/alice"),
    ("GET", "/v1/collections/{entity}", "/v1/collections/alice"),
    ("GET", "/v1/collections/{entity}/{name}", "/v1/collections/alice/veiled"),
    ("GET", "/v1/containers/{entity}/{collection}", "/v1/containers/alice/veiled"),
    ("GET", "/v1/containers/{path:path}", f"/v1/containers/{PLACE}"),
    ("GET", "/collections/{entity}", "/collections/alice"),
    ("GET", "/collections/{entity}/{collection}", "/collections/alice/veiled"),
    ("GET", "/collections/{entity}/{collection}/{container}", f"/collections/{PLACE}"),
    ("GET", "/collections/{entity}/{collection}/{container}/{what}", f"/collections/{PLACE}/v1"),
    ("GET", "/collections/{entity}/{collection}/{container}/{what}", f"/collections/{PLACE}/{HASH}"),
)
# What is there for everybody, and must hold nothing of it.
LISTS: Final = (
    ("/v1/collections", "/v1/collections"),
    ("/v1/search", "/v1/search?value=tool"),
    ("/v1/search", f"/v1/search?value={HASH[7:]}"),
    ("/", "/"),
    ("/search", "/search?q=tool"),
    ("/search", f"/search?q=library://{PLACE}:v1"),
    ("/collections", "/collections"),
)
# What changes it. ``reader`` is refused with 403, strangers with 404 (or 401 when they are nobody at all).
WRITES: Final[tuple[tuple[str, str, str, Any], ...]] = (
    ("DELETE", "/v1/images/{ref:path}", f"/v1/images/{PLACE}:v1", None),
    ("DELETE", "/v1/images/{ref:path}", f"/v1/images/{PLACE}:{HASH}", None),
    ("DELETE", "/v1/containers/{path:path}", f"/v1/containers/{PLACE}", None),
    ("DELETE", "/v1/collections/{entity}/{name}", "/v1/collections/alice/veiled", None),
    ("POST", "/v1/containers", "/v1/containers", {"collection": "{collection}", "name": "mine"}),
    ("POST", "/v1/images", "/v1/images", {"container": "{container}", "hash": HASH}),
    ("POST", "/v1/images", "/v1/images", {"container": "{container}", "hash": f"sha256.{'0' * 64}"}),
    ("POST", "/v2/tags/{container_id}", "/v2/tags/{container}", {"Tag": "x", "ImageID": "{image}"}),
    ("POST", "/v1/tags/{container_id}", "/v1/tags/{container}", {"Tag": "x", "ImageID": "{image}"}),
    ("POST", "/v2/imagefile/{image_id}", "/v2/imagefile/{image}", {"filesize": 5}),
    ("PUT", "/v2/imagefile/{image_id}/_complete", "/v2/imagefile/{image}/_complete", {}),
    ("POST", "/v2/imagefile/{image_id}/_multipart", "/v2/imagefile/{image}/_multipart", {"filesize": 5}),
    (
        "PUT",
        "/v2/imagefile/{image_id}/_multipart",
        "/v2/imagefile/{image}/_multipart",
        {"uploadID": "{upload}", "partNumber": 1},
    ),
    (
        "PUT",
        "/v2/imagefile/{image_id}/_multipart_complete",
        "/v2/imagefile/{image}/_multipart_complete",
        {"uploadID": "{upload}", "completedParts": [{"partNumber": 1, "token": ""}]},
    ),
    (
        "PUT",
        "/v2/imagefile/{image_id}/_multipart_abort",
        "/v2/imagefile/{image}/_multipart_abort",
        {"uploadID": "{upload}"},
    ),
)
FORMS: Final = (
    ("/collections/{entity}/{collection}", "/collections/alice/veiled", "do=privacy&private=0"),
    (
        "/collections/{entity}/{collection}",
        "/collections/alice/veiled",
        "do=member&user=bob&role=contributor",
    ),
    ("/collections/{entity}/{collection}", "/collections/alice/veiled", "do=delete&confirm=alice/veiled"),
    ("/collections/{entity}/{collection}/{container}", f"/collections/{PLACE}", f"do=delete&confirm={PLACE}"),
    ("/collections/{entity}/{collection}/{container}", f"/collections/{PLACE}", "do=settings&read_only=1"),
    ("/collections/{entity}/{collection}/{container}/{what}", f"/collections/{PLACE}/v1", "do=tag&tag=x"),
    ("/collections/{entity}/{collection}/{container}/{what}", f"/collections/{PLACE}/v1", "do=untag&tag=v1"),
    ("/collections/{entity}/{collection}/{container}/{what}", f"/collections/{PLACE}/v1", "do=freeze&tag=v1"),
    (
        "/collections/{entity}/{collection}/{container}/{what}",
        f"/collections/{PLACE}/v1",
        "do=delete&confirm=yes",
    ),
    ("/upload/check", "/upload/check", "collection=alice/veiled&name=tool&tag=v2&size=5"),
)
ADMIN_ONLY: Final = ("/admin", "/admin/users", "/admin/maintenance", "/admin/audit")
# About the asker alone, or about nobody: tested where they are owned.
OWN: Final = frozenset(
    {
        *(
            "/v1/entities",
            "/v1/rbac/users/current",
            "/v1/token-status",
            "/tokens",
            "/auth/tokens",
            "/account",
        ),
        *("/version", "/assets/config/config.prod.json", "/v1", "/v1/", "/v1/oci-redirect", "/pks/lookup"),
        *("/login", "/logout", "/signup", "/login/oidc", "/login/oidc/callback", "/login/header", "/upload"),
        *("/static/{version}/{name}", "/internal/tickets", "/internal/commits", "/internal/health"),
    }
)


class Table:
    """A registry with one private collection, and everybody who asks for it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        core.add_user("robot")
        pushed = push(core, PLACE, CONTENT, by="alice", tag="v1", private=True)
        core.add_user("reader")
        owner = actor_of(core, "alice")
        stewardship.set_member(core.registry, owner, "alice", "veiled", user="reader", role="reader")
        core.tokens["alice's pull token"] = core.token("alice", scope="pull")
        core.tokens["made up"] = "sgr_made-up"
        core.tokens["expired"] = core.token("alice", scope="admin", days=1)
        core.clock.at += 86_400
        core.tokens["revoked"] = core.token("alice", scope="admin")
        newest = accounts.tokens_of(core.registry, "alice")[-1]
        accounts.revoke_token(core.registry, newest.id, by="test")
        found = core.call("GET", "/v1/collections/alice/veiled", by="alice").data
        begun = core.call(
            "POST", f"/v2/imagefile/{pushed.image}/_multipart", {"filesize": 5}, by="alice"
        ).data
        self.ids = {
            "{container}": pushed.container,
            "{image}": pushed.image,
            "{collection}": found["id"],
            "{upload}": begun["uploadID"],
        }
        bob = accounts.find_user(core.registry, "bob")
        signed = identity.begin_session(core.registry, bob, address="192.0.2.1", how="test")
        self.browser = {"cookie": f"{SESSION_COOKIE}={signed.cookie}", "x_csrf_token": signed.actor.csrf}
        self.csrf = signed.actor.csrf

    def filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.filled(one) for name, one in value.items()}
        for mark, known in self.ids.items():
            value = value.replace(mark, known) if isinstance(value, str) else value
        return value

    def status(self, who: str, method: str, target: str, body: Any = None) -> int:
        reply = self.ask(who, method, target, body)
        assert reply.status < 500
        return reply.status

    def ask(self, who: str, method: str, target: str, body: Any = None) -> Reply:
        target, body = self.filled(target), self.filled(body)
        if who == "bob's browser":
            if isinstance(body, bytes):
                body += f"&csrf_token={self.csrf}".encode()
            return self.core.call(method, target, body, **self.browser)
        return self.core.call(method, target, body, by="" if who == "nobody" else who)


@pytest.fixture
def table(new_core: OpenCore) -> Table:
    core = new_core(address_requests_per_s=0, token_requests_per_s=0)
    for name in ("alice", "bob"):
        core.add_user(name)
    core.add_user("root", scope="admin", admin=True)
    return Table(core)


def test_every_route_is_in_the_table(core: Core) -> None:
    app: Any = core.app
    while not hasattr(app, "routes"):
        app = getattr(app, "app", None) or app._app
    known = {path for _method, path, *_ in (*READS, *WRITES)} | {path for path, *_ in (*LISTS, *FORMS)}
    known |= {*ADMIN_ONLY, *OWN}
    assert {route.path for route in app.routes if isinstance(route, Route)} == known


def test_strangers_find_nothing_and_readers_only_read(table: Table) -> None:
    for method, _path, target in READS:
        for who in STRANGERS:
            assert table.status(who, method, target) == 404, (who, target)
        for who in BAD_TOKENS:
            assert table.status(who, method, target) == 401, (who, target)
        for who in READERS:
            assert table.status(who, method, target) in {200, 303}, (who, target)


def test_no_list_holds_what_is_private(table: Table) -> None:
    for _path, target in LISTS:
        for who in STRANGERS:
            reply = table.ask(who, "GET", target)
            assert reply.status == 200, (who, target)
            shown = reply.body.decode().replace(target, "").replace(PLACE, "")
            assert "veiled" not in shown, (who, target)
        for who in BAD_TOKENS:
            assert table.status(who, "GET", target) == 401, (who, target)


def test_strangers_and_readers_change_nothing(table: Table) -> None:
    before = table.ask("alice", "GET", f"/v1/containers/{PLACE}").data
    for method, _path, target, body in WRITES:
        for who in (*STRANGERS, *BAD_TOKENS):
            expected = 401 if who == "nobody" or who in BAD_TOKENS else 404
            assert table.status(who, method, target, body) == expected, (who, method, target)
        for who in READERS:
            assert table.status(who, method, target, body) == 403, (who, method, target)
    for _path, target, fields in FORMS:
        for who in (*STRANGERS, *BAD_TOKENS):
            # The page of an image looks for the image first, whoever asks.
            one_of = {401} if who in BAD_TOKENS else {401, 404} if who == "nobody" else {404}
            assert table.status(who, "POST", target, fields.encode()) in one_of, (who, target, fields)
        for who in READERS:
            assert table.status(who, "POST", target, fields.encode()) == 403, (who, target, fields)
    assert table.ask("alice", "GET", f"/v1/containers/{PLACE}").data == before


def test_only_administrators_administer(table: Table) -> None:
    everybody = (*STRANGERS, *BAD_TOKENS, *READERS, "alice", "robot")
    for target in ADMIN_ONLY:
        for who in everybody:
            expected = 401 if who == "nobody" or who in BAD_TOKENS else 403
            assert table.status(who, "GET", target) == expected, (who, target)
        table.core.tokens["root's push token"] = table.core.token("root", scope="push")
        assert table.status("root's push token", "GET", target) == 403
        assert table.status("root", "GET", target) == 200
    for target, fields in (
        ("/admin/users", b"do=promote&name=bob"),
        ("/admin/users", b"do=reset&name=root"),
        ("/admin/maintenance", b"do=on&mode=full"),
    ):
        for who in everybody:
            expected = 401 if who == "nobody" or who in BAD_TOKENS else 403
            assert table.status(who, "POST", target, fields) == expected, (who, target)


def test_a_session_without_its_csrf_token_changes_nothing(table: Table) -> None:
    """Everywhere, and before anything else is looked at."""
    cookie = table.browser["cookie"]
    forms = [(target, fields.encode()) for _path, target, fields in FORMS]
    forms += [(target, b"name=x&do=x&mode=full") for target in ADMIN_ONLY[1:3]]
    forms += [
        (target, b"do=x") for target in ("/tokens", "/auth/tokens", "/account", "/collections", "/logout")
    ]
    for target, fields in forms:
        for more in (b"", b"&csrf_token=", b"&csrf_token=wrong"):
            assert table.core.call("POST", target, fields + more, cookie=cookie).status == 403, target
    for method, _path, target, body in WRITES:
        refused = table.core.call(method, table.filled(target), table.filled(body), cookie=cookie)
        assert refused.status == 403, target


def test_knowing_a_digest_grants_nothing(table: Table) -> None:
    """Not to pull by it, not to have the bytes linked to a place of one's own, not even to learn that they are here."""
    core = table.core
    own = push(core, "bob/mine/tool", b"other bytes", by="bob")
    made = core.call("POST", "/v1/images", {"container": own.container, "hash": HASH}, by="bob").data
    other = core.call(
        "POST", "/v1/images", {"container": own.container, "hash": f"sha256.{'0' * 64}"}, by="bob"
    ).data
    assert {name for name in made if made[name] != other[name]} <= {"id", "hash"}
    assert made["uploaded"] is False
    assert core.call("GET", f"/v1/imagefile/bob/mine/tool:{HASH}", by="bob").status == 404
    tag = {"Arch": "amd64", "Tag": "x", "ImageID": made["id"]}
    assert core.call("POST", f"/v2/tags/{own.container}", tag, by="bob").status == 409
    theirs = {**tag, "ImageID": table.ids["{image}"]}
    assert core.call("POST", f"/v2/tags/{own.container}", theirs, by="bob").status == 404
