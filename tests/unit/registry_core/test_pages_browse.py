"""Owns what must hold of the pages on which people look around: what they show, and to whom."""

from typing import Final

import pytest

from registry_core.service import stewardship
from tests.support.core import Core
from tests.support.sif_bytes import build_sif
from tests.support.visitor import Visitor, add_person, path_of
from tests.unit.registry_core.conftest import OpenCore

TOOL: Final = build_sif(
    arch="arm64",
    definition="Bootstrap: docker\nFrom: debian:12\n%post\n  echo '<b>not html</b>'\n",
    labels={"maintainer": "Alice <alice@example.org>", "version": "1.2"},
)


def upload(
    core: Core, content: bytes = TOOL, *, by: str = "alice", to: str = "alice/test", **more: str
) -> str:
    """The path of the new image's page."""
    return path_of(core.upload(content, by=by, collection=to, **more).data["images"][0]["url"])


def make_private(visitor: Visitor, collection: str) -> None:
    visitor.submit(f"/collections/{collection}", do="privacy", private="1")


def test_the_home_page_shows_public_collections_and_new_images(core: Core) -> None:
    add_person(core, "alice")
    upload(core, name="tool", tag="v1")
    shown = Visitor(core).get("/")
    assert shown.status == 200
    assert "/collections/alice/test" in shown.links
    assert "/collections/alice/test/tool/v1?arch=arm64" in shown.links
    assert "Your collections" not in shown.text


def test_an_empty_registry_says_so(core: Core) -> None:
    assert "nothing public here yet" in Visitor(core).get("/").text
    assert "You have no collection yet" in add_person(core, "alice").get("/").text


def test_who_is_signed_in_sees_their_own_collections(core: Core) -> None:
    alice, bob = add_person(core, "alice"), add_person(core, "bob")
    upload(core)
    make_private(alice, "alice/test")
    assert "/collections/alice/test" in alice.get("/").links
    assert "Your collections" in alice.get("/").text
    assert "/collections/alice/test" not in bob.get("/").links


PRIVATE_PLACES: Final = (
    "/collections/alice",
    "/collections/alice/test",
    "/collections/alice/test/tool",
    "/collections/alice/test/tool/latest",
)


@pytest.mark.parametrize("path", PRIVATE_PLACES)
def test_a_private_place_is_missing_for_others_in_the_same_words_as_one_that_never_was(
    core: Core, path: str
) -> None:
    alice, bob = add_person(core, "alice"), add_person(core, "bob")
    upload(core)
    make_private(alice, "alice/test")
    assert alice.get(path).status == 200
    for visitor in (bob, Visitor(core)):
        hidden, absent = visitor.get(path), visitor.get(path.replace("test", "void"))
        assert (hidden.status, absent.status) == (404, 404)
        if path.count("/") > 2:
            assert hidden.text.split("Request")[0] == absent.text.split("Request")[0]


def test_a_private_image_is_in_no_list_of_others(core: Core) -> None:
    alice, bob = add_person(core, "alice"), add_person(core, "bob")
    image = upload(core, name="hiddentool")
    make_private(alice, "alice/test")
    for path in ("/", "/collections", "/search?q=hiddentool", "/search?q=alice"):
        for visitor in (bob, Visitor(core)):
            shown = visitor.get(path)
            assert shown.status == 200
            assert not [link for link in shown.links if link.startswith("/collections/alice")], path
            assert image not in shown.html
        assert [link for link in alice.get(path).links if link.startswith("/collections/alice")], path


def test_a_member_sees_a_private_collection(core: Core) -> None:
    alice, bob = add_person(core, "alice"), add_person(core, "bob")
    upload(core)
    make_private(alice, "alice/test")
    alice.submit("/collections/alice/test", do="member", user="bob", role="reader")
    shown = bob.get("/collections/alice/test")
    assert shown.status == 200
    assert "Manage" not in shown.text
    assert "/collections/alice/test" in bob.get("/").links
    alice.submit("/collections/alice/test", do="member", user="bob", role="none")
    assert bob.get("/collections/alice/test").status == 404


def test_a_registry_without_anonymous_pull_shows_strangers_nothing(new_core: OpenCore) -> None:
    core = new_core(anonymous_pull=False)
    add_person(core, "alice")
    upload(core)
    stranger = Visitor(core)
    assert "/collections/alice/test" not in stranger.get("/").links
    answered = stranger.get("/collections/alice/test?x=1")
    assert (answered.status, answered.location) == (303, "/login?next=%2Fcollections%2Falice%2Ftest%3Fx%3D1")


def test_search_takes_a_reference_as_it_was_pasted(core: Core) -> None:
    add_person(core, "alice")
    upload(core, name="tool", tag="v7")
    for text in ("tool", "library://alice/test/tool", "library%3A%2F%2Falice%2Ftest%2Ftool%3Av7"):
        shown = Visitor(core).get(f"/search?q={text}")
        assert "/collections/alice/test/tool/v7?arch=arm64" in shown.links, text


def test_search_says_what_is_wrong_and_what_was_not_found(core: Core) -> None:
    visitor = Visitor(core)
    assert "at least 3 characters" in visitor.get("/search?q=ab").text
    assert "Nothing matches nosuchthing" in visitor.get("/search?q=nosuchthing").text


def test_what_people_wrote_is_shown_as_text_and_never_as_html(core: Core) -> None:
    alice = add_person(core, "alice")
    image = upload(core)
    evil = "<script>alert(1)</script>\"'><img src=x>"
    alice.submit("/collections/alice/test", do="describe", description=evil)
    alice.submit("/collections/alice/test/tool", do="settings", description=evil)
    for path in ("/", "/collections", "/collections/alice/test", "/collections/alice/test/tool", image):
        assert "<script>alert" not in alice.get(path).html
        assert "<img" not in alice.get(path).html
    assert "<script>alert" not in alice.get("/search?q=%3Cscript%3Ealert(1)").html
    assert "echo &#39;&lt;b&gt;not html" in alice.get(image).html


def test_long_lists_come_in_pages(core: Core) -> None:
    alice = add_person(core, "alice")
    for number in range(52):
        alice.post("/collections", csrf=alice.get("/collections").csrf, entity="alice", name=f"c{number:02}")
    first, second = alice.get("/collections"), alice.get("/collections?page=2")
    assert "/collections/alice/c49" in first.links
    assert "/collections/alice/c50" not in first.links
    assert "/collections?page=2" in first.links
    assert [link for link in second.links if link.startswith("/collections/alice/c")] == [
        "/collections/alice/c50",
        "/collections/alice/c51",
    ]
    for odd in ("0", "-1", "x", "99999999", "²"):
        assert alice.get(f"/collections?page={odd.encode().hex() if odd == '²' else odd}").status == 200


def test_names_in_an_address_are_folded_as_clients_fold_them(core: Core) -> None:
    add_person(core, "alice")
    upload(core)
    assert Visitor(core).get("/collections/Alice/TEST/Tool").status == 200
    assert Visitor(core).get("/collections/alice/..%2f..").status == 404


def test_the_roles_that_a_form_offers_are_those_that_exist(core: Core) -> None:
    alice = add_person(core, "alice")
    upload(core)
    shown = alice.get("/collections/alice/test")
    assert all(f"<option>{role}</option>" in shown.html for role in stewardship.ROLES)


def test_a_quota_is_shown_to_those_who_push(new_core: OpenCore) -> None:
    core = new_core(quota_bytes=1 << 30)
    alice = add_person(core, "alice")
    upload(core, bytes(1 << 20))
    assert "1.0 MiB of 1.0 GiB used in alice" in alice.get("/collections/alice/test").text
    assert "used in alice" not in Visitor(core).get("/collections/alice/test").text
    assert "1.0 MiB of 1.0 GiB" in alice.get("/account").text
