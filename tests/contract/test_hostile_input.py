"""Owns what hostile clients send and ask: nothing of it is answered with 500, and no refusal tells what is there."""

import json
import re
import struct
from urllib.parse import quote

import pytest

from gateway.contract import CommittedImage, open_ticket
from registry_core.policy import Scope
from registry_core.service import places, stewardship
from tests.contract.conftest import OpenCore
from tests.contract.test_permissions import actor_of
from tests.support.core import Core, Reply
from tests.support.library_push import make_container, push

HALF = "half a character: \ud800"
NUL = "no text: \0"
ZEROS = f"sha256.{'0' * 64}"


def anonymized(reply: Reply, *names: str) -> tuple[int, str]:
    return reply.status, re.sub("|".join(names), "X", reply.message)


# -- what a refusal tells


@pytest.mark.parametrize("by", ["", "bob"])
@pytest.mark.parametrize(
    "target",
    [
        "/v1/collections/{}/hidden",
        "/v1/containers/{}/hidden",
        "/v1/containers/{}/hidden/tool",
        "/v1/images/{}/hidden/tool:v1",
        "/v1/imagefile/{}/hidden/tool:v1",
        "/v1/entities/{}",
    ],
)
def test_refusals_do_not_tell_which_accounts_there_are(core: Core, by: str, target: str) -> None:
    push(core, "alice/hidden/tool", b"bytes", by="alice", tag="v1", private=True)
    there, missing = (core.call("GET", target.format(name), by=by) for name in ("alice", "nobody"))
    assert anonymized(there, "alice") == anonymized(missing, "nobody")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v2/tags/{}", None),
        ("POST", "/v2/tags/{}", {"Tag": "v1", "ImageID": "1", "Arch": "amd64"}),
        ("POST", "/v1/images", {"container": "{}", "hash": ZEROS}),
        ("POST", "/v1/containers", {"collection": "{}", "name": "tool"}),
        ("POST", "/v1/collections", {"entity": "{}", "name": "other"}),
        ("POST", "/v2/imagefile/{}", {"filesize": 5}),
        ("POST", "/v2/imagefile/{}/_multipart", {"filesize": 5}),
        ("PUT", "/v2/imagefile/{}/_complete", {}),
    ],
)
def test_counting_up_ids_tells_nothing(core: Core, method: str, target: str, body: dict[str, str]) -> None:
    pushed = push(core, "alice/hidden/tool", b"bytes", by="alice", tag="v1", private=True)
    # One id for every kind: of the container, the image, the collection, the entity.
    collection = core.call("GET", "/v1/collections/alice/hidden", by="alice").data
    for there in (pushed.container, pushed.image, collection["id"], collection["entity"]):
        answers = {
            (reply.status, reply.message)
            for number in (there, "4711")
            for reply in (
                core.call(
                    method,
                    target.format(number),
                    body and {k: v.format(number) if isinstance(v, str) else v for k, v in body.items()},
                    by="bob",
                ),
            )
            if reply.status >= 400  # bob's own entity may have that number
        }
        assert len(answers) == 1
        assert "alice" not in str(answers)


# -- frozen tags


def test_a_frozen_tag_of_two_architectures_names_what_it_named(core: Core) -> None:
    """Its images may not change places either, and it gets no third one."""
    amd = push(core, "alice/open/tool", b"for amd64", by="alice", tag="v1", arch="amd64")
    arm = push(core, "alice/open/tool", b"for arm64", by="alice", tag="v1", arch="arm64")
    owner = actor_of(core, "alice")
    stewardship.freeze_tag(core.registry, owner, "alice", "open", "tool", tag="v1", frozen=True)
    before = core.call("GET", f"/v2/tags/{amd.container}").data
    for arch, image in (("amd64", arm.image), ("arm64", amd.image), ("s390x", amd.image)):
        moved = core.call(
            "POST", f"/v2/tags/{amd.container}", {"Arch": arch, "Tag": "v1", "ImageID": image}, by="alice"
        )
        assert moved.status == 409
    same = {"Arch": "amd64", "Tag": "v1", "ImageID": amd.image}
    assert core.call("POST", f"/v2/tags/{amd.container}", same, by="alice").status == 200
    assert core.call("GET", f"/v2/tags/{amd.container}").data == before


# -- texts that no database and no answer can hold


@pytest.mark.parametrize("text", [HALF, NUL])
def test_what_is_no_text_is_refused(core: Core, text: str) -> None:
    container = make_container(core, "alice/open/tool", by="alice")
    image = core.call("POST", "/v1/images", {"container": container, "hash": ZEROS}, by="alice").data["id"]
    file = f"/v2/imagefile/{image}"
    for method, target, body in (
        ("POST", "/v1/entities", {"name": "alice", "description": text}),
        ("POST", "/v1/entities", {"name": text}),
        ("POST", "/v1/collections", {"entity": "1", "name": "new", "description": text}),
        ("POST", "/v1/containers", {"collection": "1", "name": "new", "description": text}),
        ("POST", "/v1/images", {"container": container, "hash": ZEROS[:-1] + "1", "description": text}),
        ("POST", "/v1/images", {"container": container, "hash": text}),
        ("POST", file, {"filesize": 1, "sha256sum": text}),
        ("PUT", f"{file}/_multipart", {"uploadID": text, "partNumber": 1}),
        ("PUT", f"{file}/_multipart_abort", {"uploadID": text}),
        ("PUT", f"{file}/_multipart_complete", {"uploadID": text, "completedParts": []}),
        ("POST", f"/v2/tags/{container}", {"Tag": text, "ImageID": image, "Arch": text}),
        ("POST", f"/v2/tags/{container}", {"Tag": "v1", "ImageID": text, "Arch": "amd64"}),
    ):
        assert core.call(method, target, body, by="alice").status == 400, (method, target)
    # Unescaped, as bytes that UTF-8 does not know.
    raw = b'{"name": "alice", "description": "\xed\xa0\x80"}'
    assert core.call("POST", "/v1/entities", raw, by="alice").status == 400


def test_questions_with_odd_bytes_find_nothing(core: Core) -> None:
    push(core, "alice/open/tool", b"bytes", by="alice", tag="v1")
    for target in (
        "/v1/search?value=%00%00%00abc",
        "/v1/search?value=tool&arch=%00",
        "/v1/search?value=%ed%a0%80abc",
        f"/v1/search?value={'%25' * 30_000}",
        "/v1/images/alice/open/tool:v1?arch=%00",
        "/search?q=%00abc",
        "/?done=%00",
        "/admin/audit?before=%00",
    ):
        assert core.call("GET", target).status < 500, target


def test_forms_with_odd_bytes_are_refused(core: Core) -> None:
    push(core, "alice/open/tool", b"bytes", by="alice", tag="v1")
    core.tokens["alice"] = core.token("alice", scope="admin")
    for target, fields in (
        ("/tokens", "scope=pull&days=90&label=a%00b"),
        ("/tokens", f"scope=pull&label=a&days={'9' * 5000}"),
        ("/tokens", "scope=%00&days=90"),
        ("/collections", "entity=alice&name=new&description=a%00b"),
        ("/collections/alice/open", "do=describe&description=a%00b"),
        ("/collections/alice/open", "do=member&role=reader&user=a%00b"),
        ("/collections/alice/open/tool", "do=settings&description=%ed%a0%80"),
        ("/collections/alice/open/tool/v1", "do=tag&tag=a%00b"),
        ("/upload/check", "size=1&collection=alice/open&name=a%00b&tag=%00"),
        ("/login", "name=a%00b&password=whatever"),
    ):
        assert 400 <= core.call("POST", target, fields.encode(), by="alice").status < 500, (target, fields)
    for fields in ("do=add&name=new&email=a%00b", "do=reset&name=a%00b", "do=remove&name=a%00b"):
        assert 400 <= core.call("POST", "/admin/users", fields.encode(), by="root").status < 500


def test_nobody_makes_every_list_long(core: Core) -> None:
    long = "x" * 1_000_000
    entity = core.call("POST", "/v1/entities", {"name": "alice"}, by="alice").data["id"]
    made = core.call(
        "POST", "/v1/collections", {"entity": entity, "name": "new", "description": long}, by="alice"
    ).data
    core.call(
        "POST", "/v1/containers", {"collection": made["id"], "name": "new", "description": long}, by="alice"
    )
    core.call("POST", "/v1/entities", {"name": "team", "description": long}, by="root")
    assert len(core.call("GET", "/v1/collections").body) < 10_000
    assert len(core.call("GET", "/v1/search?value=new").body) < 20_000
    assert len(core.call("GET", "/v1/entities/team", by="root").body) < 10_000


def test_a_commit_with_odd_words_is_refused_for_good(core: Core) -> None:
    """Not with 500: the gateway would tell of it again and again."""
    asked = core.ask(by="alice", collection="alice/open", name="tool", declared_bytes=5)
    ticket = open_ticket(core.registry.secret, asked.json["ticket"], now=core.clock())
    digest = core.store_bytes(ticket, "tool", b"bytes")
    for text in (NUL, HALF):
        image = CommittedImage(sha256=digest, size=5, name="tool", description=text)
        assert core.tell(asked.json["ticket"], image).status == 400


# -- where forms lead to


@pytest.mark.parametrize(
    ("wanted", "led"),
    [
        ("/search?q=€", "/search?q=%E2%82%AC"),
        ("/collections/a?x=%2F", "/collections/a?x=%2F"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\r\nset-cookie: a=b", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_signing_in_leads_back_to_this_site_only(core: Core, wanted: str, led: str) -> None:
    reply = core.call("GET", f"/login?next={quote(wanted, safe='')}", by="alice")
    assert (reply.status, reply.headers["location"]) == (303, led)


def test_nobody_signs_up_as_the_default_entity(new_core: OpenCore) -> None:
    """Short references point there: ``library://tool`` is ``library/default/tool``."""
    core = new_core(accounts="open")
    page = core.call("GET", "/signup")
    cookie = page.all("set-cookie")[0].split(";")[0]
    found = re.search(rb'name="csrf_token" value="([^"]+)"', page.body)
    assert found is not None
    fields = f"name=Library&password=long+enough&again=long+enough&csrf_token={found[1].decode()}"
    assert core.call("POST", "/signup", fields.encode(), cookie=cookie).status == 409


# -- images that lie about themselves


def sif(*objects: tuple[int, bytes], created: int = 0, total: int | None = None, offset: int = 128) -> bytes:
    heads, contents, at = b"", b"", 128 + 585 * len(objects)
    for kind, content in objects:
        numbers = (0, at + len(contents), len(content), len(content), 0, 0, 0, 0)
        heads += struct.pack("<i?IIIqqqqqqq128s384s", kind, True, 1, 1, *numbers[:8], b"name", b"")
        contents += content
    counted = len(objects) if total is None else total
    numbers = (created, created, 0, counted, offset, 0, 0, 0)
    head = struct.pack("<32s10s3s3s16sqqqqqqqq", b"", b"SIF_MAGIC\0", b"01\0", b"02\0", b"", *numbers)
    return head + heads + contents


LIES = {
    "of-the-year-292-billion": sif(created=2**62),
    "before-time": sif(created=-(2**62)),
    "deep-labels": sif((0x4003, b"[" * 200_000)),
    "half-a-label": sif((0x4003, json.dumps({"a": HALF}).encode())),
    "half-a-name": sif((0x4003, json.dumps({"\udfff": "b"}).encode())),
    "table-beyond-the-end": sif((0x4001, b"x"), total=1024, offset=2**62),
    "script": sif((0x4001, b"</pre><script>alert(1)</script>"), (0x4003, b'{"<script>": "<script>"}')),
}


@pytest.mark.parametrize("name", LIES)
def test_the_page_of_an_image_that_lies_is_shown(core: Core, name: str) -> None:
    assert core.upload(LIES[name], by="alice", collection="alice/open", name=name).status == 200
    page = core.call("GET", f"/collections/alice/open/{name}/latest", accept="text/html")
    assert page.status == 200
    assert b"<script>" not in page.body
    assert core.call("GET", f"/collections/alice/open/{name}", accept="text/html").status == 200


def test_a_name_by_number_is_not_told(core: Core) -> None:
    actor = actor_of(core, "bob", Scope.PUSH)
    assert places.may_make_entity(actor, "bob")
    entity = core.call("GET", "/v1/entities", by="alice").data["id"]
    refused = core.call("POST", "/v1/collections", {"entity": entity, "name": "new"}, by="bob")
    assert refused.status == 403
    assert "alice" not in refused.message
