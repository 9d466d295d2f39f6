"""Owns what must hold of the page of an image, and of the forms by which owners change images and collections."""

from typing import Final

import pytest

from gateway.errors import StoreDown
from registry_core.paths import image_path
from tests.support.core import Core
from tests.support.sif_bytes import build_sif
from tests.support.visitor import Visitor, add_person, path_of

PRINT: Final = "8883491F4268F173C6E5DC49EDECE4F3F38D871E"
TOOL: Final = build_sif(
    definition="Bootstrap: docker\nFrom: debian:12\n",
    labels={"maintainer": "Alice", "version": "1.2"},
    fingerprint=PRINT,
)


def upload(core: Core, content: bytes = TOOL, *, name: str = "tool", tag: str = "v1") -> str:
    """The path of the new image's page."""
    answer = core.upload(content, by="alice", collection="alice/test", name=name, tag=tag)
    return path_of(answer.data["images"][0]["url"])


def test_the_address_that_a_commit_answers_is_the_image_page(core: Core) -> None:
    alice = add_person(core, "alice")
    path = upload(core)
    shown = alice.get(path)
    assert shown.status == 200
    digest = path.rpartition("sha256.")[2]
    assert path == image_path("alice", "test", "tool", digest)
    assert digest in shown.text


def test_it_tells_what_is_in_the_image(core: Core) -> None:
    add_person(core, "alice")
    text = Visitor(core).get(upload(core)).text
    for told in ("amd64", "signed", PRINT, "partition", "squashfs", "definition file", "From: debian:12"):
        assert told in text
    assert "maintainer Alice" in text
    assert f"({len(TOOL):,} bytes)" in text


def test_a_file_that_is_no_image_is_shown_without_an_inside(core: Core) -> None:
    add_person(core, "alice")
    shown = Visitor(core).get(upload(core, b"only bytes" * 100))
    assert shown.status == 200
    assert "not in SIF format" in shown.text
    assert "not known" in shown.text


@pytest.mark.parametrize("cut", [1, 127, 128, 4096, 5000, 32_768, len(TOOL) - 1])
def test_a_file_that_ends_too_early_is_shown_all_the_same(core: Core, cut: int) -> None:
    add_person(core, "alice")
    assert Visitor(core).get(upload(core, TOOL[:cut])).status == 200


def test_what_lies_far_inside_a_large_image_is_read_there(core: Core) -> None:
    add_person(core, "alice")
    large = build_sif(partition=bytes(200_000), fingerprint=PRINT, labels={"far": "away"})
    text = Visitor(core).get(upload(core, large)).text
    assert "far away" in text
    assert PRINT in text


def test_the_page_is_there_while_the_store_is_not(core: Core) -> None:
    add_person(core, "alice")
    path = upload(core)
    core.store.down = True
    with pytest.raises(StoreDown):
        core.store.stat("alice/test/tool")
    shown = Visitor(core).get(path)
    assert shown.status == 200
    assert "cannot be read right now" in shown.text


def test_the_commands_pull_what_the_page_shows(core: Core) -> None:
    add_person(core, "alice")
    path = upload(core)
    by_tag = Visitor(core).get("/collections/alice/test/tool/v1").command_lines
    assert by_tag[0] == "apptainer pull --library https://registry.example library://alice/test/tool:v1"
    assert by_tag[1] == "singularity pull --library https://registry.example library://alice/test/tool:v1"
    assert by_tag[2] == "curl -fLJO https://registry.example/v1/imagefile/alice/test/tool:v1"
    digest = path.rpartition("/")[2]
    assert Visitor(core).get(path).command_lines[0].endswith(f"library://alice/test/tool:{digest}")


def test_the_commands_of_a_private_image_send_a_token(core: Core) -> None:
    alice = add_person(core, "alice")
    upload(core)
    alice.submit("/collections/alice/test", do="privacy", private="1")
    lines = alice.get("/collections/alice/test/tool/v1").command_lines
    assert lines[0] == "apptainer pull library://alice/test/tool:v1"
    assert lines[2].startswith('curl -fLJO -H "Authorization: Bearer $TOKEN" https://registry.example/')


def test_each_architecture_of_a_tag_has_its_page_and_its_commands(core: Core) -> None:
    add_person(core, "alice")
    upload(core)
    upload(core, build_sif(arch="arm64"))
    intel = Visitor(core).get("/collections/alice/test/tool/v1")
    assert "/collections/alice/test/tool/v1?arch=arm64" in intel.links
    arm = Visitor(core).get("/collections/alice/test/tool/v1?arch=arm64")
    assert arm.command_lines[0].startswith("apptainer pull --arch arm64 ")
    assert arm.command_lines[2].endswith(
        "'https://registry.example/v1/imagefile/alice/test/tool:v1?arch=arm64'"
    )
    assert Visitor(core).get("/collections/alice/test/tool/v1?arch=s390x").status == 404


def test_the_download_leads_to_the_bytes_like_a_pull(core: Core) -> None:
    add_person(core, "alice")
    shown = Visitor(core).get(upload(core))
    link = next(link for link in shown.links if link.startswith("/v1/imagefile/"))
    answered = Visitor(core).get(link)
    assert answered.status == 303
    assert core.link(answered.location).size == len(TOOL)


def test_a_session_downloads_what_is_private_and_a_stranger_does_not(core: Core) -> None:
    alice = add_person(core, "alice")
    upload(core)
    alice.submit("/collections/alice/test", do="privacy", private="1")
    assert alice.get("/v1/imagefile/alice/test/tool:v1").status == 303
    refused = Visitor(core).get("/v1/imagefile/alice/test/tool:v1")
    assert refused.status == 404
    assert "signing in" in refused.text


def test_a_tag_is_added_frozen_released_and_removed(core: Core) -> None:
    alice = add_person(core, "alice")
    path = upload(core)
    assert "now names this image" in alice.submit(path, do="tag", tag="stable").text
    assert "keeps naming" in alice.submit(path, do="freeze", tag="stable").text
    refused = core.upload(
        build_sif(created=1), by="alice", collection="alice/test", name="tool", tag="stable"
    )
    assert refused.status == 409
    stuck = alice.post(path, do="untag", tag="stable", arch="amd64")
    assert stuck.status == 409
    assert "frozen" in stuck.text
    alice.submit(path, do="unfreeze", tag="stable")
    assert "tag is removed" in alice.submit(path, do="untag", tag="stable", arch="amd64").text
    history = alice.get("/collections/alice/test/tool").text
    assert "nothing: it was removed" in history


def test_a_bad_tag_comes_back_with_a_sentence(core: Core) -> None:
    alice = add_person(core, "alice")
    answered = alice.post(upload(core), do="tag", tag="no spaces please")
    assert answered.status == 400
    assert "cannot be a tag" in answered.text


def test_deleting_an_image_needs_the_box_to_be_ticked(core: Core) -> None:
    alice = add_person(core, "alice")
    path = upload(core)
    assert "Nothing was deleted" in alice.post(path, do="delete").text
    assert alice.get(path).status == 200
    assert "The image is deleted" in alice.submit(path, do="delete", confirm="yes").text
    assert alice.get(path).status == 404


@pytest.mark.parametrize(
    ("path", "name"),
    [("/collections/alice/test", "alice/test"), ("/collections/alice/test/tool", "alice/test/tool")],
)
def test_deleting_more_than_an_image_needs_its_name(core: Core, path: str, name: str) -> None:
    alice = add_person(core, "alice")
    upload(core)
    assert "Nothing was deleted" in alice.post(path, do="delete", confirm="yes").text
    assert alice.get(path).status == 200
    alice.submit(path, do="delete", confirm=name)
    assert alice.get(path).status == 404


def test_a_read_only_container_takes_nothing(core: Core) -> None:
    alice = add_person(core, "alice")
    upload(core)
    alice.submit("/collections/alice/test/tool", do="settings", read_only="1", description="done")
    assert core.upload(TOOL, by="alice", collection="alice/test", name="tool", tag="v2").status == 409
    assert "read-only" in alice.get("/collections/alice/test/tool").text


FORMS: Final = (
    ("/collections/alice/test", {"do": "privacy", "private": "1"}),
    ("/collections/alice/test", {"do": "member", "user": "bob", "role": "contributor"}),
    ("/collections/alice/test", {"do": "describe", "description": "mine now"}),
    ("/collections/alice/test", {"do": "delete", "confirm": "alice/test"}),
    ("/collections/alice/test/tool", {"do": "settings", "read_only": "1"}),
    ("/collections/alice/test/tool", {"do": "delete", "confirm": "alice/test/tool"}),
    ("/collections/alice/test/tool/v1", {"do": "tag", "tag": "mine"}),
    ("/collections/alice/test/tool/v1", {"do": "freeze", "tag": "v1"}),
    ("/collections/alice/test/tool/v1", {"do": "untag", "tag": "v1", "arch": "amd64"}),
    ("/collections/alice/test/tool/v1", {"do": "delete", "confirm": "yes"}),
)


@pytest.mark.parametrize(("path", "fields"), FORMS)
def test_a_form_of_somebody_else_changes_nothing(core: Core, path: str, fields: dict[str, str]) -> None:
    add_person(core, "alice")
    bob = add_person(core, "bob")
    upload(core)
    count = "SELECT count(*) FROM audit"
    with core.registry.database.read() as db:
        lines = db.exec_driver_sql(count).scalar()
    assert "Manage" not in bob.get(path).text
    assert bob.post(path, csrf=bob.get("/collections").csrf, **fields).status == 403
    assert Visitor(core).post(path, csrf="", **fields).location == "/login"
    with core.registry.database.read() as db:
        assert db.exec_driver_sql(count).scalar() == lines


@pytest.mark.parametrize(("path", "fields"), FORMS)
def test_a_form_without_the_token_of_the_session_is_refused(
    core: Core, path: str, fields: dict[str, str]
) -> None:
    alice, other = add_person(core, "alice"), add_person(core, "bob")
    upload(core)
    stolen = other.get("/").csrf
    for token in ("", "wrong", stolen):
        answered = alice.post(path, csrf=token, **fields)
        assert answered.status == 403
        assert "came from another site" in answered.text


@pytest.mark.parametrize("path", [path for path, _fields in FORMS[:1]] + [FORMS[4][0], FORMS[6][0]])
def test_a_form_that_asks_for_nothing_known_is_refused(core: Core, path: str) -> None:
    alice = add_person(core, "alice")
    upload(core)
    assert alice.post(path, do="fly").status == 400
