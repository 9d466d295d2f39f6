"""What gateway and core say to each other: names, tokens, signed calls."""

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import (
    CALL_FRESH_S,
    BlobLink,
    Ticket,
    call_is_signed,
    container_name_of,
    load_secret,
    open_link,
    open_ticket,
    parse_collection,
    parse_name,
    parse_tag,
    prefers_html,
    seal,
    sign_call,
)
from gateway.errors import BadForm, NotFound

KEY = b"k" * 32
TICKET = Ticket(kind="image", id="1" * 32, entity="a", collection="b", container="c", size=5, expires=100)
LINK = BlobLink(key="a/b/c:sha256." + "0" * 64, sha256="0" * 64, size=5, filename="c.sif", expires=100)


def test_a_token_gives_back_what_was_sealed() -> None:
    assert open_ticket(KEY, seal(KEY, TICKET), now=100) == TICKET
    assert open_link(KEY, seal(KEY, LINK), now=100) == LINK


def test_a_token_expires_but_a_commit_may_come_late() -> None:
    with pytest.raises(NotFound):
        open_ticket(KEY, seal(KEY, TICKET), now=101)
    assert open_ticket(KEY, seal(KEY, TICKET), now=None) == TICKET


def test_one_kind_of_token_is_never_taken_for_the_other_and_another_key_opens_none() -> None:
    with pytest.raises(NotFound):
        open_link(KEY, seal(KEY, TICKET), now=0)
    with pytest.raises(NotFound):
        open_ticket(b"x" * 32, seal(KEY, TICKET), now=0)


@given(st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    token = seal(KEY, TICKET)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=0x2FF))
    changed = token[:at] + other + token[at + 1 :]
    if changed != token:
        with pytest.raises(NotFound):
            open_ticket(KEY, changed, now=0)


def test_a_call_is_good_for_its_method_target_body_and_a_few_minutes() -> None:
    (_, stamp), (_, signature) = sign_call(KEY, "POST", "/internal/x?y", b"body", 1000.0)

    def check(
        method: str = "POST", target: str = "/internal/x?y", body: bytes = b"body", now: float = 1000.0
    ) -> bool:
        return call_is_signed(KEY, method, target, body, stamp=stamp, signature=signature, now=now)

    assert check()
    assert check(now=1000 + CALL_FRESH_S)
    assert not check(now=1001 + CALL_FRESH_S)
    assert not check(now=999 - CALL_FRESH_S)
    assert not check(method="GET")
    assert not check(target="/internal/x")
    assert not check(body=b"Body")
    assert not call_is_signed(KEY, "POST", "/x", b"", stamp="²", signature="é", now=0)


@pytest.mark.parametrize("text", ["alice/test", " Alice/Test ", "/alice/test/"])
def test_a_collection_is_folded_to_lower_case(text: str) -> None:
    assert parse_collection(text) == ("alice", "test")


@pytest.mark.parametrize(
    "text", ["", "alice", "a/b/c", "a//b", "../x", "a/.b", "a/b-", "a/b__c", "a/b c", "a/é", "a/" + "b" * 129]
)
def test_what_cannot_be_a_collection_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadForm):
        parse_collection(text)


def test_names_and_tags() -> None:
    assert parse_name("b" * 128, "container") == "b" * 128
    assert parse_tag(" v1.0_rc-1 ") == "v1.0_rc-1"
    assert parse_tag("Latest") == "Latest"
    for tag in ("", ".a", "-a", "a b", "a/b", "sha256.abc", "a" * 129):
        with pytest.raises(BadForm):
            parse_tag(tag)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("Tool.SIF", "tool"),
        ("my tool (2).sif", "my-tool-2"),
        ("..", "image"),
        ("", "image"),
        ("a__b.simg", "a_b"),
        ("x.tar.gz", "x.tar.gz"),
        ("é.sif", "image"),
    ],
)
def test_a_file_name_becomes_a_container_name(filename: str, name: str) -> None:
    assert container_name_of(filename) == name


@given(st.text(max_size=300))
def test_every_file_name_becomes_a_container_name_that_is_accepted(filename: str) -> None:
    name = container_name_of(filename)
    assert parse_name(name, "container") == name


def test_all_who_come_first_agree_on_one_private_secret(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "key"
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(load_secret(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["key"]
    assert time.time() >= path.stat().st_mtime


@pytest.mark.parametrize(
    ("accept", "is_browser"),
    [
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", True),
        ("Text/HTML; Charset=utf-8 ; Q=0.3", True),
        ("text/html;level=1;q=0.4", True),
        ("text/html, */*; q=0.01", True),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", True),
        ("application/json, text/html", True),
        ("application/json;q=0.5, text/html;q=0.5", True),
        ("application/json;q=0.4, text/html;q=0.5", True),
        ("text/*", True),
        ("text/html;q=much", True),
        ("text/html;q=0.5, text/html;level=1;q=0.9, application/json;q=0.8", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, */*;q=0.5", False),
        ("text/html;q=0", False),
        ("text/html;q=0.000", False),
        ("text/html;q=0, application/json", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=0, text/*", False),
        ("application/json, text/html;q=0.5", False),
        ("application/json;q=0.9,text/html ; q = 0.8", False),
        ("*/*, text/html;q=0.5", False),
        ("application/*, text/html;q=0.5", False),
        ("text/htmlx", False),
        ("image/svg+xml, image/*", False),
    ],
)
def test_html_is_for_who_names_it_and_wants_it_no_less_than_json(accept: str, *, is_browser: bool) -> None:
    assert prefers_html(accept.split(",")) is is_browser


@given(st.text(alphabet="texhmlapiconjsq=0.15;,/* \t", max_size=80))
def test_any_accept_is_an_answer(accept: str) -> None:
    assert prefers_html(accept.split(",")) in {True, False}


def test_a_long_quality_costs_no_time() -> None:
    started = time.process_time()
    assert prefers_html(["text/html;q=" + "0" * 60_000 + "x", *[";q=" + " " * 10] * 5_000])
    print(f"{time.process_time() - started:.3f} s")
