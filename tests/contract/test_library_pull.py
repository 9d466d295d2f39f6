"""Owns what pulling, searching, deleting and discovery may rely on, on every database."""

import hashlib

import pytest

from tests.support.core import Core
from tests.support.library_push import push

CONTENT = b"some image"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PATH = "alice/test/tool"


def test_a_pull_is_sent_to_the_bytes_with_303(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1")
    for method in ("GET", "HEAD"):
        sent = core.call(method, f"/v1/imagefile/{PATH}:v1?arch=amd64")
        assert sent.status == 303
        assert sent.headers["location"].startswith("https://registry.example/v1/blobs/")
        link = core.link(sent.headers["location"])
        assert (link.key, link.size, link.sha256) == (f"{PATH}:sha256.{DIGEST}", len(CONTENT), DIGEST)
        assert link.filename == "tool_v1.sif"
        assert link.expires > core.clock()


def test_downloads_are_counted_and_looks_are_not(core: Core) -> None:
    from registry_core.service import pull

    push(core, PATH, CONTENT, by="alice")
    for method in ("GET", "GET", "HEAD"):
        core.call(method, f"/v1/imagefile/{PATH}:latest")
    pull.write_downloads(core.registry)
    assert core.call("GET", f"/v1/images/{PATH}:latest").data["downloadCount"] == 2
    assert core.call("GET", f"/v1/containers/{PATH}").data["downloadCount"] == 2


def test_what_is_missing_is_not_found_in_words(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1")
    for ref in (f"{PATH}:v2", f"{PATH}:sha256.{'0' * 64}", f"{PATH}@sha256:{DIGEST}", "alice/test/none:v1"):
        missing = core.call("GET", f"/v1/images/{ref}")
        assert missing.status == 404
        assert missing.json["error"]["code"] == 404
        assert missing.json["request_id"]


def test_short_references_and_doubled_slashes_are_understood(core: Core) -> None:
    core.add_user("library")
    push(core, "library/default/tool", CONTENT, by="library")
    push(core, "library/other/tool", CONTENT + b"2", by="library")
    for ref in (
        "tool:latest",
        "/tool:latest",
        "default/tool:latest",
        "library//default///tool:latest",
        "tool",
    ):
        assert core.call("GET", f"/v1/images/{ref}").data["size"] == len(CONTENT)
    assert core.call("GET", "/v1/images/other/tool:latest").data["size"] == len(CONTENT) + 1


def test_names_are_folded_alike_when_written_and_when_read(core: Core) -> None:
    assert core.upload(CONTENT, by="alice", collection="Alice/Test", name="tool", tag="V1.0").status == 200
    assert core.call("GET", "/v1/images/ALICE/test/TOOL:V1.0").data["tags"] == ["V1.0"]
    assert core.call("GET", "/v1/images/alice/test/tool:v1.0").status == 404


def test_search_finds_by_every_part_and_filters(core: Core) -> None:
    push(core, "alice/astro/stellar", CONTENT, by="alice", tag="nova")
    for value in ("stellar", "STELL", "astro", "alice", "astro/stel", "nova", f"sha256.{DIGEST[:12]}"):
        found = core.call("GET", f"/v1/search?value={value}&arch=amd64").data
        assert [image["containerName"] for image in found["image"]] == ["stellar"], value
        assert found["image"][0]["tags"] == ["nova"]
    assert core.call("GET", "/v1/search?value=stellar&arch=arm64").data["image"] == []
    assert core.call("GET", "/v1/search?value=stellar&signed=true").data["image"] == []
    assert core.call("GET", "/v1/search?value=%25%25%25").data["image"] == []
    assert core.call("GET", "/v1/search?value=st").status == 400


def test_search_shows_only_what_one_may_see(core: Core) -> None:
    push(core, "alice/hidden/treasure", CONTENT, by="alice", private=True)
    for by, expected in (("", 0), ("bob", 0), ("alice", 1), ("root", 1)):
        found = core.call("GET", "/v1/search?value=treasure", by=by).data
        assert (len(found["image"]), len(found["container"])) == (expected, expected)
        assert len(core.call("GET", "/v1/search?value=hidden", by=by).data["collection"]) == expected


@pytest.mark.parametrize("query", ["?arch=amd64", "?arch%3Damd64", ""])
def test_delete_by_tag_removes_image_and_tag(core: Core, query: str) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1")
    assert core.call("DELETE", f"/v1/images/{PATH}:v1{query}").status == 401
    assert core.call("DELETE", f"/v1/images/{PATH}:v1{query}", by="bob").status == 403
    assert core.call("DELETE", f"/v1/images/{PATH}:v1{query}", by="alice").status == 200
    assert core.call("GET", f"/v1/images/{PATH}:v1", by="alice").status == 404
    assert core.call("GET", f"/v1/images/{PATH}:sha256.{DIGEST}", by="alice").status == 404
    assert core.call("DELETE", f"/v1/images/{PATH}:v1{query}", by="alice").status == 404


def test_delete_by_tag_keeps_what_another_tag_names(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1")
    push(core, PATH, CONTENT, by="alice", tag="v2")
    assert core.call("DELETE", f"/v1/images/{PATH}:v1?arch=amd64", by="alice").status == 200
    assert core.call("GET", f"/v1/images/{PATH}:v2").data["tags"] == ["v2"]
    assert core.call("DELETE", f"/v1/images/{PATH}:sha256.{DIGEST}", by="alice").status == 200
    assert core.call("GET", f"/v1/images/{PATH}:v2").status == 404


def test_delete_takes_one_architecture(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1", arch="amd64")
    push(core, PATH, CONTENT + b"arm", by="alice", tag="v1", arch="arm64")
    assert core.call("DELETE", f"/v1/images/{PATH}:v1?arch=arm64", by="alice").status == 200
    assert core.call("GET", f"/v1/images/{PATH}:v1?arch=amd64").status == 200
    assert core.call("GET", f"/v1/images/{PATH}:v1?arch=arm64").status == 404


def test_clients_are_told_where_everything_is(core: Core) -> None:
    config = core.call("GET", "/assets/config/config.prod.json")
    assert config.json["libraryAPI"] == config.json["tokenAPI"] == {"uri": "https://registry.example"}
    assert config.json["keystoreAPI"]["uri"]
    assert config.headers["content-type"] == "application/json"
    version = core.call("GET", "/version").data
    assert version["apiVersion"] == "2.0.0-alpha.2"
    assert core.call("GET", "/v1/oci-redirect?namespace=a/b/c&accessTypes=pull&mapped=1").status == 404
    assert core.call("GET", "/pks/lookup?op=get&search=0xAB").status == 404


def test_a_token_is_checked_at_login(core: Core) -> None:
    assert core.call("GET", "/v1/token-status", by="alice").status == 200
    assert core.call("GET", "/v1/token-status", token="x" * 220).status == 404
    assert core.call("GET", "/v1/token-status").status == 404
    me = core.call("GET", "/v1/rbac/users/current", by="alice").json
    assert me["username"] == "alice"
    assert core.call("GET", "/v1/rbac/users/current").status == 401


def test_times_are_rfc_3339_and_numbers_are_whole(core: Core) -> None:
    push(core, PATH, CONTENT, by="alice", tag="v1")
    for target in ("/v1/entities/alice", "/v1/collections/alice/test", f"/v1/containers/{PATH}"):
        value = core.call("GET", target, by="alice").data
        assert value["createdAt"] == "2027-01-15T08:00:00Z"
        assert value["deletedAt"] is None
        assert isinstance(value["id"], str)
        assert isinstance(value["size"], int)


def test_unknown_paths_and_methods_get_the_envelope(core: Core) -> None:
    unknown = core.call("GET", "/v1/nothing", x_request_id="abc-123")
    assert (unknown.status, unknown.json["error"]["code"]) == (404, 404)
    assert unknown.json["request_id"] == unknown.headers["x-request-id"] == "abc-123"
    refused = core.call("PATCH", "/v1/entities")
    assert refused.status == 405
    assert {"GET", "POST"} <= {word.strip() for word in refused.headers["allow"].split(",")}


def test_a_mistake_of_ours_is_500_in_the_envelope(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("registry_core.service.pull.find_image", broken)
    failed = core.call("GET", f"/v1/images/{PATH}:v1")
    assert failed.status == 500
    assert failed.json["request_id"]
    assert b"secret detail" not in failed.body
