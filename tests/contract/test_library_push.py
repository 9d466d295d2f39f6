"""Owns what a library push may rely on, on every database."""

import hashlib

import pytest

from gateway.contract import open_ticket
from registry_core.service.push import MOST_PARTS, choose_part_size
from tests.support.core import Core
from tests.support.library_push import make_container, push

CONTENT = b"an image of forty bytes, or a few more.."
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PATH = "alice/test/tool"


def test_a_push_can_be_pulled_by_tag_and_by_digest(core: Core) -> None:
    pushed = push(core, PATH, CONTENT, by="alice", tag="v1")
    assert pushed.sent
    for what in ("v1", f"sha256.{DIGEST}"):
        image = core.call("GET", f"/v1/images/{PATH}:{what}?arch=amd64").data
        assert (image["hash"], image["size"], image["uploaded"]) == (f"sha256.{DIGEST}", len(CONTENT), True)
        assert image["id"] == pushed.image


def test_a_second_push_of_the_same_image_moves_no_bytes(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice")
    assert not push(core, PATH, CONTENT, by="alice", tag="again").sent
    assert core.call("GET", f"/v2/tags/{make_container(core, PATH, by='alice')}").data["amd64"].keys() == {
        "latest",
        "again",
    }


def test_a_digest_alone_grants_nothing(core: Core) -> None:
    """Bytes of a private image are not given to those who know their digest; where they may pull, they are."""
    push(core, "alice/secret/tool", CONTENT, by="alice", private=True)
    container = make_container(core, "bob/mine/tool", by="bob")
    made = core.call("POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="bob")
    assert made.data["uploaded"] is False
    push(core, "alice/open/tool", CONTENT, by="alice")
    again = core.call("POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="bob")
    assert again.data["uploaded"] is True
    assert core.store.stat(f"bob/mine/tool:sha256.{DIGEST}").size == len(CONTENT)


def test_asking_for_an_unknown_image_makes_no_row(core: Core) -> None:
    container = make_container(core, PATH, by="alice")
    for _ in range(2):
        assert core.call("GET", f"/v1/images/{PATH}:sha256.{DIGEST}", by="alice").status == 404
    assert core.call("GET", f"/v1/containers/{PATH}", by="alice").data["images"] == []
    assert container


def test_posting_what_exists_answers_with_what_exists(core: Core) -> None:
    first = core.call("POST", "/v1/entities", {"name": "alice"}, by="alice")
    assert first.status == 200
    body = {"name": "Test", "entity": first.data["id"]}
    one, two = (core.call("POST", "/v1/collections", body, by="alice") for _ in range(2))
    assert (one.status, two.status, one.data["id"]) == (200, 200, two.data["id"])
    assert two.data["name"] == "test"


@pytest.mark.parametrize(
    "step", ["/v2/imagefile/{}", "/v2/imagefile/{}/_multipart", "/v2/imagefile/{}/_complete"]
)
def test_only_those_who_may_push_touch_an_upload(core: Core, step: str) -> None:
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    method = "PUT" if step.endswith("_complete") else "POST"
    target = step.format(image)
    assert core.call(method, target, {"filesize": 10}).status == 401
    assert core.call(method, target, {"filesize": 10}, by="bob").status == 403
    pull_only = core.token("alice", scope="pull")
    refused = core.call(method, target, {"filesize": 10}, token=pull_only)
    assert refused.status == 403
    assert "scope 'pull'" in refused.message


def test_complete_refuses_an_image_whose_bytes_never_came(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_core.service.push._WAIT_S", 0.0)
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    assert core.call("PUT", f"/v2/imagefile/{image}/_complete", {}, by="alice").status == 409
    tagged = core.call("POST", f"/v2/tags/{container}", {"Tag": "v1", "ImageID": image}, by="alice")
    assert tagged.status == 409


def test_wrong_bytes_are_refused_when_they_are_told_of(core: Core) -> None:
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    url = core.call("POST", f"/v2/imagefile/{image}", {"filesize": len(CONTENT)}, by="alice").data[
        "uploadURL"
    ]
    assert core.put(url, CONTENT[::-1]).status == 422
    assert core.put(url, CONTENT + b"!").status == 422
    assert core.call("GET", f"/v1/images/{PATH}:sha256.{DIGEST}").status == 404
    assert core.put(url, CONTENT).status == 200


def test_the_upload_url_asks_for_the_digest_and_carries_the_promise(core: Core) -> None:
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    offer = {"filesize": len(CONTENT), "sha256sum": DIGEST}
    url = core.call("POST", f"/v2/imagefile/{image}", offer, by="alice").data["uploadURL"]
    address, _, query = url.partition("?")
    assert address.startswith("https://registry.example/v2/transfers/")
    assert query == "X-Amz-SignedHeaders=x-amz-content-sha256"
    ticket = open_ticket(core.registry.secret, address.rpartition("/")[2], now=core.clock())
    assert (ticket.kind, ticket.sha256, ticket.size) == ("image", DIGEST, len(CONTENT))
    other = core.call("POST", f"/v2/imagefile/{image}", {**offer, "sha256sum": "b" * 64}, by="alice")
    assert other.status == 422


def test_the_end_of_a_push_tells_quota_and_page(core: Core) -> None:
    pushed = push(core, PATH, CONTENT, by="alice")
    done = core.call("PUT", f"/v2/imagefile/{pushed.image}/_complete", {}, by="alice").data
    assert done["quota"] == {"quotaTotal": 0, "quotaUsage": len(CONTENT)}
    assert done["containerUrl"] == "collections/alice/test/tool"


def test_an_architecture_beside_another_has_a_tag_of_its_own(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1", arch="amd64")
    other = CONTENT + b"arm"
    push(core, PATH, other, by="alice", tag="v1", arch="arm64")
    assert core.call("GET", f"/v1/images/{PATH}:v1?arch=amd64").data["size"] == len(CONTENT)
    assert core.call("GET", f"/v1/images/{PATH}:v1?arch=arm64").data["size"] == len(other)
    assert core.call("GET", f"/v1/images/{PATH}:v1?arch=riscv64").status == 404
    assert core.call("GET", f"/v1/images/{PATH}:v1").data["size"] == len(CONTENT)


def test_tags_belong_to_their_container(core: Core) -> None:
    """The incumbent deleted the image of another owner who had the same name and tag."""
    mine = push(core, PATH, CONTENT, by="alice", tag="v1")
    theirs = push(core, "bob/test/tool", CONTENT + b"bob", by="bob", tag="v1")
    assert core.call("GET", f"/v1/images/{PATH}:v1").data["id"] == mine.image
    foreign = {"Arch": "amd64", "Tag": "v1", "ImageID": theirs.image}
    assert core.call("POST", f"/v2/tags/{mine.container}", foreign, by="alice").status == 404
    assert core.call("POST", f"/v2/tags/{theirs.container}", foreign, by="alice").status == 403


def test_the_old_tags_call_knows_one_architecture(core: Core) -> None:
    pushed = push(core, PATH, CONTENT, by="alice", tag="v1")
    body = {"Tag": "v2", "ImageID": pushed.image}
    assert core.call("POST", f"/v1/tags/{pushed.container}", body, by="alice").status == 200
    assert core.call("GET", f"/v1/tags/{pushed.container}").data == {"v1": pushed.image, "v2": pushed.image}


@pytest.mark.parametrize("tag", ["", "-x", "a b", "sha256." + "0" * 64, "x" * 129])
def test_what_cannot_be_a_tag_is_refused(core: Core, tag: str) -> None:
    pushed = push(core, PATH, CONTENT, by="alice")
    body = {"Arch": "amd64", "Tag": tag, "ImageID": pushed.image}
    assert core.call("POST", f"/v2/tags/{pushed.container}", body, by="alice").status == 400


@pytest.mark.parametrize(
    "size", [1, 100 << 20, (64 << 20) * MOST_PARTS, (64 << 20) * MOST_PARTS + 1, 5 << 40]
)
def test_parts_hold_the_file_exactly(size: int) -> None:
    part = choose_part_size(size, 64 << 20)
    parts = -(-size // part)
    assert parts <= MOST_PARTS
    assert (parts - 1) * part < size <= parts * part


def test_an_upload_in_parts_belongs_to_who_began_it(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_core.service.push._WAIT_S", 0.0)
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    size = (64 << 20) * 2
    begun = core.call("POST", f"/v2/imagefile/{image}/_multipart", {"filesize": size}, by="alice").data
    assert (begun["totalParts"], begun["partSize"], begun["options"]) == (
        2,
        64 << 20,
        {"s3compliant": "true"},
    )
    part = {"uploadID": begun["uploadID"], "partNumber": 2, "partSize": 64 << 20, "sha256sum": "c" * 64}
    where = f"/v2/imagefile/{image}/_multipart"
    url = core.call("PUT", where, part, by="alice").data["presignedURL"]
    ticket = open_ticket(core.registry.secret, url.rpartition("/")[2], now=core.clock())
    assert (ticket.kind, ticket.id, ticket.part_number, ticket.part_sha256) == (
        "part",
        begun["uploadID"],
        2,
        "c" * 64,
    )
    assert core.call("PUT", where, part, by="root").status == 404
    assert core.call("PUT", where, {**part, "partNumber": 3}, by="alice").status == 400
    assert core.call("PUT", where, {**part, "partSize": 5}, by="alice").status == 422
    listed = {"uploadID": begun["uploadID"], "completedParts": [{"partNumber": 1, "token": "x"}]}
    assert core.call("PUT", f"{where}_complete", listed, by="alice").status == 400
    listed["completedParts"] = [{"partNumber": n, "token": "x"} for n in (1, 2)]
    assert core.call("PUT", f"{where}_complete", listed, by="alice").status == 409
    assert core.call("PUT", f"{where}_abort", {"uploadID": begun["uploadID"]}, by="alice").status == 200
    assert core.call("PUT", where, part, by="alice").status == 404


def test_the_oldest_push_gets_a_ticket_by_the_images_id(core: Core) -> None:
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    assert core.ask(image_id=image, declared_bytes=len(CONTENT), by="bob").status == 403
    token = core.ask(image_id=image, declared_bytes=len(CONTENT), by="alice").json["ticket"]
    assert core.put(f"/v2/transfers/{token}", CONTENT).status == 200


def test_bodies_need_no_content_type_and_broken_ones_are_named(core: Core) -> None:
    assert core.call("POST", "/v1/entities", b"{", by="alice").status == 400
    assert core.call("POST", "/v1/entities", b"[]", by="alice").status == 400
    assert core.call("POST", "/v1/entities", {"name": 5}, by="alice").status == 400
    assert (
        core.call("POST", "/v1/entities", b'{"name":"alice"}', by="alice", content_type="text/plain").status
        == 200
    )


@pytest.mark.parametrize("step", ["/v2/imagefile/{}", "/v2/imagefile/{}/_multipart"])
def test_while_the_store_is_down_a_push_is_refused_where_the_client_shows_the_sentence(
    core: Core, step: str
) -> None:
    container = make_container(core, PATH, by="alice")
    image = core.call(
        "POST", "/v1/images", {"hash": f"sha256.{DIGEST}", "container": container}, by="alice"
    ).data["id"]
    core.store.down = True
    refused = core.call("POST", step.format(image), {"filesize": 10}, by="alice")
    assert (refused.status, int(refused.headers["retry-after"]) > 0) == (503, True)
    assert "store" in refused.message
    core.store.down = False
    assert core.call("POST", step.format(image), {"filesize": 10}, by="alice").status == 200
