"""Owns who may do what, route by route, on every database: the incumbent's leaks, the right way round."""

import hashlib
from typing import Final

import pytest

from registry_core import policy
from registry_core.model import Place
from registry_core.policy import Actor, Scope
from registry_core.repo import accounts, catalog
from registry_core.service import stewardship
from tests.contract.conftest import OpenCore
from tests.support.core import Core
from tests.support.library_push import push

CONTENT: Final = b"some image"
DIGEST: Final = hashlib.sha256(CONTENT).hexdigest()
HIDDEN: Final = "alice/hidden/tool"

# Every reading route, with {container} for the id of the hidden container.
READS: Final = (
    f"/v1/images/{HIDDEN}:v1",
    f"/v1/images/{HIDDEN}:sha256.{DIGEST}",
    f"/v1/imagefile/{HIDDEN}:v1",
    "/v1/collections/alice/hidden",
    f"/v1/containers/{HIDDEN}",
    "/v1/containers/alice/hidden",
    "/v2/tags/{container}",
    "/v1/tags/{container}",
)


def actor_of(core: Core, name: str, scope: Scope = Scope.ADMIN) -> Actor:
    with core.registry.database.read() as db:
        user = accounts.user_by_name(db, name)
    assert user is not None
    return Actor(user_id=user.id, name=user.name, admin=user.admin, scope=scope)


@pytest.mark.parametrize("target", READS)
def test_a_private_collection_does_not_exist_for_others(core: Core, target: str) -> None:
    pushed = push(core, HIDDEN, CONTENT, by="alice", tag="v1", private=True)
    target = target.format(container=pushed.container)
    assert core.call("GET", target).status == 404
    assert core.call("GET", target, by="bob").status == 404
    assert core.call("GET", target, by="alice").status in {200, 303}
    assert core.call("GET", target, by="root").status in {200, 303}
    stewardship.set_member(
        core.registry, actor_of(core, "alice"), "alice", "hidden", user="bob", role="reader"
    )
    assert core.call("GET", target, by="bob").status in {200, 303}


def test_an_entity_with_nothing_to_show_does_not_exist_for_others(core: Core) -> None:
    push(core, HIDDEN, CONTENT, by="alice", private=True)
    assert core.call("GET", "/v1/entities/alice", by="bob").status == 404
    assert core.call("GET", "/v1/entities/alice", by="alice").status == 200
    push(core, "alice/open/tool", CONTENT, by="alice")
    seen = core.call("GET", "/v1/entities/alice", by="bob").data
    assert len(seen["collections"]) == 1
    assert seen["size"] == 0
    listed = core.call("GET", "/v1/collections", by="bob").data
    assert [(one["entityName"], one["name"]) for one in listed] == [("alice", "open")]
    assert len(core.call("GET", "/v1/collections", by="alice").data) == 2


def test_refusals_do_not_tell_private_from_missing(core: Core) -> None:
    push(core, HIDDEN, CONTENT, by="alice", private=True)
    answers = {
        (reply.status, reply.message.replace("hidden", "X").replace("missing", "X"))
        for name in ("hidden", "missing")
        for reply in (core.ask(by="bob", collection=f"alice/{name}"),)
    }
    assert len(answers) == 1
    entity = core.call("GET", "/v1/entities/alice", by="alice").data["id"]
    made = {
        (reply.status, reply.message.replace("hidden", "X").replace("missing", "X"))
        for name in ("hidden", "missing")
        for reply in (core.call("POST", "/v1/collections", {"name": name, "entity": entity}, by="bob"),)
    }
    assert len(made) == 1
    assert made.pop()[0] == 403


def test_contributors_push_and_readers_pull(core: Core) -> None:
    push(core, HIDDEN, CONTENT, by="alice", tag="v1", private=True)
    owner = actor_of(core, "alice")
    stewardship.set_member(core.registry, owner, "alice", "hidden", user="bob", role="reader")
    assert core.ask(by="bob", collection="alice/hidden").status == 403
    stewardship.set_member(core.registry, owner, "alice", "hidden", user="bob", role="contributor")
    assert core.ask(by="bob", collection="alice/hidden").status == 200
    assert push(core, "alice/hidden/other", CONTENT + b"2", by="bob", tag="v1").sent
    assert core.call("DELETE", f"/v1/images/{HIDDEN}:v1", by="bob").status == 403
    stewardship.set_member(core.registry, owner, "alice", "hidden", user="bob", role=None)
    assert core.ask(by="bob", collection="alice/hidden").status == 404


def test_entities_belong_to_the_user_of_the_same_name(core: Core) -> None:
    assert core.call("POST", "/v1/entities", {"name": "alice"}, by="bob").status == 403
    assert core.call("POST", "/v1/entities", {"name": "newteam"}, by="bob").status == 403
    assert core.call("POST", "/v1/entities", {"name": "newteam"}).status == 401
    assert core.call("POST", "/v1/entities", {"name": "newteam"}, by="root").status == 200
    refused = core.call("POST", "/v1/entities", {"name": "Bad Name"}, by="root")
    assert refused.status == 400


@pytest.mark.parametrize(
    ("scope", "pull", "push_status", "delete"),
    [("pull", 200, 403, 403), ("push", 200, 200, 200), ("admin", 200, 200, 200)],
)
def test_a_token_does_no_more_than_its_scope(
    core: Core, scope: str, pull: int, push_status: int, delete: int
) -> None:
    push(core, HIDDEN, CONTENT, by="alice", tag="v1", private=True)
    core.tokens["robot"] = core.token("alice", scope=scope)
    assert core.call("GET", f"/v1/images/{HIDDEN}:v1", by="robot").status == pull
    assert core.ask(by="robot", collection="alice/hidden").status == push_status
    assert core.call("DELETE", f"/v1/images/{HIDDEN}:v1", by="robot").status == delete


def test_tokens_end(core: Core) -> None:
    short = core.token("alice", scope="push", days=1)
    assert core.call("GET", "/v1/entities", token=short).status == 200
    core.clock.at += 86_400
    expired = core.call("GET", "/v1/entities", token=short)
    assert expired.status == 401
    assert "expired" in expired.message
    assert "invalid_token" in expired.headers["www-authenticate"]


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "Token x", "bearer " + "x" * 5000])
def test_what_is_no_token_is_401(core: Core, header: str) -> None:
    refused = core.call("GET", "/v1/images/a/b/c:d", authorization=header)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_nothing_is_public_when_anonymous_pull_is_off(new_core: OpenCore) -> None:
    core = new_core(anonymous_pull=False)
    core.add_user("alice")
    core.add_user("bob")
    push(core, "alice/open/tool", CONTENT, by="alice")
    assert core.call("GET", "/v1/images/alice/open/tool:latest").status == 401
    assert core.call("GET", "/v1/search?value=tool").data["image"] == []
    assert core.call("GET", "/v1/images/alice/open/tool:latest", by="bob").status == 200


def test_new_collections_are_private_when_the_settings_say_so(new_core: OpenCore) -> None:
    core = new_core(default_private=True)
    core.add_user("alice")
    push(core, "alice/one/tool", CONTENT, by="alice")
    assert core.upload(CONTENT, by="alice", collection="alice/two").status == 200
    assert core.call("GET", "/v1/images/alice/one/tool:latest").status == 404
    assert core.call("GET", "/v1/images/alice/two/tool:latest").status == 404


def test_the_lists_condition_agrees_with_the_policy(core: Core) -> None:
    """``visible_to`` in SQL and ``rights`` in Python are one rule, for everybody and every collection."""
    for path, private in (("alice/a/x", True), ("alice/b/x", False), ("bob/c/x", True), ("bob/d/x", False)):
        push(core, path, CONTENT, by=path.split("/")[0], private=private)
    stewardship.set_member(core.registry, actor_of(core, "bob"), "bob", "c", user="alice", role="reader")
    everybody = [None, *(actor_of(core, name) for name in ("alice", "bob", "root"))]
    for anonymous_pull in (True, False):
        for actor in everybody:
            with core.registry.database.read() as db:
                condition = catalog.visible_to(actor, anonymous_pull=anonymous_pull)
                listed = {(e.name, c.name) for e, c in catalog.visible_collections(db, condition)}
                for entity, collection in (("alice", "a"), ("alice", "b"), ("bob", "c"), ("bob", "d")):
                    place = catalog.place_by_names(db, actor, entity, collection)
                    allowed = policy.rights(actor, place, anonymous_pull=anonymous_pull).pull
                    assert ((entity, collection) in listed) == allowed


def test_nobody_has_rights_nowhere() -> None:
    assert policy.rights(None, Place(), anonymous_pull=True) == policy.Rights()
