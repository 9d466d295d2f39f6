"""Owns what must hold of the upload page and of the question that scripts ask before they send."""

from html.parser import HTMLParser
from typing import Final

import pytest

from tests.support.core import Core
from tests.support.visitor import Visitor, add_person
from tests.unit.registry_core.conftest import OpenCore

JSON: Final = "application/json"


class FieldOrder(HTMLParser):
    """The names of the fields of the form that goes to ``/upload``, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.form: dict[str, str] = {}
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = named.get("action") == "/upload"
            self.form = named if self._inside else self.form
        elif self._inside and "name" in named:
            self.names.append(named["name"])

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def test_the_plain_form_sends_all_that_the_gateway_asks_for_before_the_file(core: Core) -> None:
    order = FieldOrder(add_person(core, "alice").get("/upload").html)
    assert order.names == ["csrf_token", "collection", "name", "tag", "description", "file"]
    assert (order.form["method"], order.form["enctype"]) == ("post", "multipart/form-data")


def test_the_session_may_upload_with_its_token_and_not_without(core: Core) -> None:
    alice = add_person(core, "alice")
    cookie = f"registry_session={alice.cookies['registry_session']}"
    question = {"collection": "alice/test", "declared_bytes": 1000, "cookie": cookie}
    token = alice.get("/upload").csrf
    assert core.ask(**question, csrf_token=token).status == 200
    assert core.ask(**question, csrf_token="wrong").status == 403
    assert core.ask(**question).status == 403


def test_it_asks_who_is_there(core: Core) -> None:
    led = Visitor(core).get("/upload?collection=alice/test&name=tool")
    assert led.location == "/login?next=%2Fupload%3Fcollection%3Dalice%2Ftest%26name%3Dtool"


def test_it_is_filled_in_from_the_address_and_suggests_what_one_may_push_to(core: Core) -> None:
    alice = add_person(core, "alice")
    assert 'value="alice/images"' in alice.get("/upload").html
    core.upload(b"bytes", by="alice", collection="alice/test")
    shown = alice.get("/upload?collection=alice%2Fother&name=to%22ol")
    assert 'value="alice/other"' in shown.html
    assert 'value="to&#34;ol"' in shown.html
    assert '<option value="alice/test">' in shown.html


def check(visitor: Visitor, *, size: str = "1000", csrf: str | None = None, **fields: str) -> tuple[int, str]:
    token = visitor.get("/").csrf if csrf is None else csrf
    asked = {"collection": "alice/test", "name": "tool", "tag": "v1", "size": size, **fields}
    answered = visitor.post("/upload/check", csrf=token, accept=JSON, **asked)
    return answered.status, answered.html


def test_what_may_come_is_allowed(core: Core) -> None:
    assert check(add_person(core, "alice")) == (204, "")


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"collection": "bob/test"}, 404, "no such entity"),
        ({"collection": "alice"}, 400, "entity/collection"),
        ({"tag": "not a tag"}, 400, "cannot be a tag"),
        ({"name": "-"}, 400, "cannot be the name"),
        ({"size": "many"}, 400, "size of the file"),
        ({"csrf": "wrong"}, 403, "came from another site"),
        ({"size": "70000000"}, 413, "Quota exceeded"),
    ],
)
def test_what_may_not_come_is_refused_with_the_sentence(
    new_core: OpenCore, fields: dict[str, str], status: int, told: str
) -> None:
    core = new_core(quota_bytes=50_000_000)
    answered = check(add_person(core, "alice"), **fields)
    assert answered[0] == status
    assert told in answered[1]
    assert answered[1].startswith('{"error":')


def test_a_stranger_who_asks_is_told_in_json(core: Core) -> None:
    assert check(Visitor(core), csrf="")[0] == 401
