"""Owns what the gateway may rely on: tickets before the bytes, commits after them, on every database."""

import hashlib
import json
from dataclasses import replace

import pytest

from gateway.contract import (
    COMMITS_PATH,
    HEALTH_PATH,
    TICKETS_PATH,
    CommittedImage,
    Ticket,
    open_ticket,
    seal,
    sign_call,
)
from registry_core.policy import Actor, Scope
from registry_core.service import limits, stewardship
from tests.contract.conftest import OpenCore
from tests.support.core import Core
from tests.support.library_push import make_container, push

CONTENT = b"some image"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MACHINE = Actor(user_id=-1, name="test", admin=True, scope=Scope.ADMIN)


def ticket_of(core: Core, **question: object) -> tuple[Ticket, str]:
    asked = core.ask(by="alice", collection="alice/test", **question)
    assert asked.status == 200, asked.body
    token = asked.json["ticket"]
    return open_ticket(core.registry.secret, token, now=core.clock()), token


@pytest.mark.parametrize("path", [TICKETS_PATH, COMMITS_PATH])
def test_without_a_signature_there_is_nothing(core: Core, path: str) -> None:
    assert core.call("POST", path, {"collection": "alice/test"}, by="root").status == 404
    old = dict(sign_call(core.registry.secret, "POST", path, b"{}", core.clock() - 400))
    assert core.call("POST", path, b"{}", **{k.replace("-", "_"): v for k, v in old.items()}).status == 404
    other = dict(sign_call(core.registry.secret, "POST", path, b"{ }", core.clock()))
    assert core.call("POST", path, b"{}", **{k.replace("-", "_"): v for k, v in other.items()}).status == 404


def test_health_is_cheap_or_deep(core: Core) -> None:
    assert core.call("GET", HEALTH_PATH).json == {"status": "ok"}
    assert core.call("GET", f"{HEALTH_PATH}?deep=1").json["status"] == "ok"
    core.store.down = True
    ill = core.call("GET", f"{HEALTH_PATH}?deep=1")
    assert (ill.status, ill.json["status"]) == (503, "ill")
    assert core.call("GET", HEALTH_PATH).status == 200


def test_the_first_upload_makes_what_is_missing(core: Core) -> None:
    done = core.upload(CONTENT, by="alice", collection="alice/fresh", name="tool", tag="v1")
    assert done.status == 200
    (image,) = done.data["images"]
    assert image == {
        "ref": "alice/fresh/tool:v1",
        "sha256": DIGEST,
        "size": len(CONTENT),
        "url": f"https://registry.example/collections/alice/fresh/tool/sha256.{DIGEST}",
    }
    assert core.call("GET", "/v1/images/alice/fresh/tool:v1").data["hash"] == f"sha256.{DIGEST}"


def test_a_ticket_alone_makes_nothing(core: Core) -> None:
    ticket_of(core)
    assert core.call("GET", "/v1/collections/alice/test", by="alice").status == 404


def test_a_commit_told_twice_is_done_once(core: Core) -> None:
    ticket, token = ticket_of(core, name="tool")
    core.store_bytes(ticket, "tool", CONTENT)
    image = CommittedImage(sha256=DIGEST, size=len(CONTENT), name="tool", tag="v1")
    first, second = core.tell(token, image), core.tell(token, image)
    assert first.status == second.status == 200
    assert first.body == second.body
    core.clock.at += 10_000_000
    assert core.tell(token, image).body == first.body


def test_a_commit_counts_however_late_it_comes(core: Core) -> None:
    ticket, token = ticket_of(core, name="tool")
    core.store_bytes(ticket, "tool", CONTENT)
    core.clock.at += 1_000_000
    assert core.tell(token, CommittedImage(sha256=DIGEST, size=len(CONTENT), name="tool")).status == 200


def test_the_store_is_asked_and_not_the_messenger(core: Core) -> None:
    ticket, token = ticket_of(core, name="tool")
    told = CommittedImage(sha256="1" * 64, size=5000, name="tool")
    assert core.tell(token, told).status == 404
    core.store_bytes(ticket, "tool", CONTENT * 20)
    wrong_size = CommittedImage(sha256=hashlib.sha256(CONTENT * 20).hexdigest(), size=5000, name="tool")
    assert core.tell(token, wrong_size).status == 422
    assert core.call("GET", "/v1/collections/alice/test", by="alice").status == 404


def test_a_forged_ticket_is_nothing(core: Core) -> None:
    ticket, _token = ticket_of(core)
    forged = seal(b"another secret", replace(ticket, collection="stolen"))
    assert core.tell(forged, CommittedImage(sha256=DIGEST, size=1)).status == 404


def test_several_files_go_to_containers_of_their_own_names(core: Core) -> None:
    ticket, token = ticket_of(core)
    told = []
    for name, content in (("one", b"1" * 200), ("two", b"2" * 200)):
        digest = core.store_bytes(ticket, name, content)
        told.append(CommittedImage(sha256=digest, size=200, filename=f"{name}.sif"))
    listed = core.tell(token, *told).data["images"]
    assert [image["ref"] for image in listed] == ["alice/test/one:latest", "alice/test/two:latest"]


def test_the_architecture_is_read_from_the_image(core: Core) -> None:
    header = (
        b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0" + b"04\0" + bytes(80)
    )
    for arch_code, arch in ((b"04", "arm64"), (b"02", "amd64")):
        content = header.replace(b"04\0", arch_code + b"\0")
        assert core.upload(content, by="alice", collection="alice/test", tag="v1").status == 200
        assert core.call("GET", f"/v1/images/alice/test/tool:v1?arch={arch}").data["arch"] == arch


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({"collection": "alice"}, 400),
        ({"collection": "alice/a/b"}, 400),
        ({"collection": "alice/bad name"}, 400),
        ({"collection": "alice/test", "name": "bad name"}, 400),
        ({"collection": "alice/test", "tag": "bad tag"}, 400),
        ({"collection": "bob/test"}, 404),
        ({"collection": "nobody/test"}, 404),
        ({"image_id": "nonsense"}, 404),
    ],
)
def test_what_cannot_be_granted_is_refused_in_words(
    core: Core, question: dict[str, str], status: int
) -> None:
    refused = core.ask(by="alice", **question)
    assert refused.status == status
    assert len(refused.message) > 20


def test_a_question_without_credentials_is_401(core: Core) -> None:
    refused = core.ask(collection="alice/test")
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert core.ask(collection="alice/test", authorization="Bearer nonsense").status == 401


def test_a_frozen_tag_keeps_its_image(core: Core) -> None:
    pushed = push(core, "alice/test/tool", CONTENT, by="alice", tag="v1")
    stewardship.freeze_tag(core.registry, MACHINE, "alice", "test", "tool", tag="v1", frozen=True)
    assert core.upload(CONTENT + b"2", by="alice", collection="alice/test", tag="v1").status == 409
    other = push(core, "alice/test/tool", CONTENT + b"2", by="alice", tag="v2")
    moved = core.call(
        "POST",
        f"/v2/tags/{pushed.container}",
        {"Arch": "amd64", "Tag": "v1", "ImageID": other.image},
        by="alice",
    )
    assert moved.status == 409
    assert "frozen" in moved.message
    same = {"Arch": "amd64", "Tag": "v1", "ImageID": pushed.image}
    assert core.call("POST", f"/v2/tags/{pushed.container}", same, by="alice").status == 200
    assert core.call("DELETE", "/v1/images/alice/test/tool:v1", by="alice").status == 409
    assert core.call("DELETE", f"/v1/images/alice/test/tool:sha256.{DIGEST}", by="alice").status == 409
    stewardship.freeze_tag(core.registry, MACHINE, "alice", "test", "tool", tag="v1", frozen=False)
    assert core.call("DELETE", "/v1/images/alice/test/tool:v1", by="alice").status == 200


def test_a_read_only_container_takes_nothing(core: Core) -> None:
    push(core, "alice/test/tool", CONTENT, by="alice")
    stewardship.change_container(
        core.registry, MACHINE, "alice", "test", "tool", description="", read_only=True
    )
    assert core.ask(by="alice", collection="alice/test", name="tool").status == 409
    container = make_container(core, "alice/test/tool", by="alice")
    new = {"hash": f"sha256.{'d' * 64}", "container": container}
    assert core.call("POST", "/v1/images", new, by="alice").status == 409


def test_a_quota_is_checked_before_and_after_the_bytes(new_core: OpenCore) -> None:
    core = new_core(quota_bytes=1000)
    core.add_user("alice")
    assert core.ask(by="alice", collection="alice/test", declared_bytes=200_000).status == 413
    ticket, _ = ticket_of(core, declared_bytes=900)
    assert ticket.max_bytes == 1000
    tickets = [ticket_of(core, name="tool") for _ in range(2)]
    statuses = []
    for number, (one, token) in enumerate(tickets):
        content = bytes([number]) * 600
        digest = core.store_bytes(one, "tool", content)
        statuses.append(core.tell(token, CommittedImage(sha256=digest, size=600, name="tool")).status)
    assert statuses == [200, 413]
    container = make_container(core, "alice/test/tool", by="alice")
    new = {"hash": f"sha256.{'d' * 64}", "container": container}
    image = core.call("POST", "/v1/images", new, by="alice").data["id"]
    for target in (f"/v2/imagefile/{image}", f"/v2/imagefile/{image}/_multipart"):
        assert core.call("POST", target, {"filesize": 400}, by="alice").status == 200
        refused = core.call("POST", target, {"filesize": 401}, by="alice")
        assert refused.status == 413
        assert (
            refused.message
            == "Quota exceeded: 600 bytes of 1000 bytes used in alice; this needs 401 bytes more."
        )


def test_a_collection_has_a_quota_of_its_own(core: Core) -> None:
    push(core, "alice/small/tool", CONTENT, by="alice")
    limits.set_quota(core.registry, MACHINE, "alice/small", len(CONTENT) + 5)
    refused = core.ask(by="alice", collection="alice/small", declared_bytes=100_000)
    assert refused.status == 413
    assert "alice/small" in refused.message
    assert core.ask(by="alice", collection="alice/other", declared_bytes=100_000).status == 200
    image = push(core, "alice/small/tool", CONTENT, by="alice").image
    done = core.call("PUT", f"/v2/imagefile/{image}/_complete", {}, by="alice").data
    assert done["quota"] == {"quotaTotal": len(CONTENT) + 5, "quotaUsage": len(CONTENT)}


def test_answers_to_the_gateway_are_json_with_a_message(core: Core) -> None:
    refused = core.internal(TICKETS_PATH, {"nonsense": 1})
    assert refused.status == 400
    assert json.loads(refused.body)["error"]["message"]
