"""Structured Fields, as the RFC's own grammar has them: what reads, and what is as good as absent."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resumable.structured import Token, read_boolean, read_dictionary, read_integer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("42", 42), ("-7", -7), ("-0", 0), (" 5 ", 5), ("007", 7),
        ("999999999999999", 10**15 - 1), ("-999999999999999", 1 - 10**15),
        ("5;a", 5), ("5;a=1;b=?0; c=\"x\"", 5),
        ("1000000000000000", None), ("1.0", None), ("1.", None), ("+1", None), ("--1", None), ("1e3", None),
        ("1 2", None), ("1,2", None), ("1;", None), ("1;A", None), ("", None), ("?1", None), ("abc", None),
        ('"1"', None), (":MQ==:", None), ("\t1", None), ("1\t", None), ("\xb2", None), ("0x10", None), ("(1)", None),
    ],
)  # fmt: skip
def test_an_integer_reads_whole_or_not_at_all(text: str, value: int | None) -> None:
    assert read_integer([text]) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("?1", True), ("?0", False), ("?1;x", True), ("?2", None), ("?", None), ("1", None), ("0", None),
        ("true", None), ("?10", None), ("?1 ", True), ("?1,?1", None), ("?T", None),
    ],
)  # fmt: skip
def test_a_boolean_is_not_an_integer(text: str, value: bool | None) -> None:
    assert read_boolean([text]) is value
    assert read_integer([text]) is None or value is None


def test_a_field_that_is_there_twice_or_not_is_no_item() -> None:
    assert read_integer([]) is None
    assert read_integer(["1", "1"]) is None
    assert read_boolean(["?1", "?1"]) is None
    assert read_dictionary([]) is None


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([""], {}),
        (["a=1"], {"a": 1}),
        (["a=1, b=2"], {"a": 1, "b": 2}),
        (["a=1,b=2\t ,\t c"], {"a": 1, "b": 2, "c": True}),
        (["a=1", "b=2"], {"a": 1, "b": 2}),
        (["a=1, a=2"], {"a": 2}),
        (["a;x=1, b=?0;y"], {"a": True, "b": False}),
        (["a=1.5, b=tok/en:*, c=\"q\\\"\\\\\", d=@1659578233"], {"a": 1.5, "b": "tok/en:*", "c": 'q"\\', "d": 1659578233}),
        (["sha-256=:AAEC:, *k=1"], {"sha-256": b"\x00\x01\x02", "*k": 1}),
        (["a=::"], {"a": b""}),
        (["a=(1 2), b=()"], {"a": (1, 2), "b": ()}),
        (["a=( 1  ?1;x ), b=(\"x\")"], {"a": (1, True), "b": ("x",)}),
        (["a=1,"], None),
        (["a=1 b=2"], None),
        (["a=1,,b=2"], None),
        (["A=1"], None),
        (["a=é"], None),
        (["=1"], None),
        (["a="], None),
        (["a=:A:"], None),
        (["a=:AA A=:"], None),
        (["a=\"x"], None),
        (["a=\"\\x\""], None),
        (["a=(1"], None),
        (["a=(1,2)"], None),
        (["a=(1\"x\")"], None),
        (["a=1.2345"], None),
        (["a=1234567890123.1"], None),
        (["a=@1.0"], None),
    ],
)  # fmt: skip
def test_a_dictionary_reads_whole_or_not_at_all(lines: list[str], value: dict[str, object] | None) -> None:
    assert read_dictionary(lines) == value


def test_a_token_is_not_a_string() -> None:
    found = read_dictionary(['a=x, b="x"'])
    assert found is not None
    assert isinstance(found["a"], Token)
    assert not isinstance(found["b"], Token)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    read_integer([text])
    read_boolean([text])
    read_dictionary([text, text])


@given(st.integers(1 - 10**15, 10**15 - 1))
def test_every_integer_of_the_grammar_reads_as_itself(value: int) -> None:
    assert read_integer([str(value)]) == value


KEYS = st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,8}", fullmatch=True)
STRINGS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
BARE = st.integers(1 - 10**15, 10**15 - 1) | st.booleans() | st.binary(max_size=40) | STRINGS
SPACE = st.text(" \t", max_size=3)


def written(value: object) -> str:
    match value:
        case bool():
            return f"?{int(value)}"
        case bytes():
            return f":{base64.b64encode(value).decode()}:"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "(" + " ".join(written(item) for item in value) + ")"
        case _:
            return str(value)


@given(st.dictionaries(KEYS, BARE | st.lists(BARE, max_size=4).map(tuple), max_size=6), SPACE, SPACE)
def test_every_dictionary_of_the_grammar_reads_as_itself(
    value: dict[str, object], before: str, after: str
) -> None:
    text = f"{before},{after}".join(f"{key}={written(member)}" for key, member in value.items())
    assert read_dictionary([text]) == value


@given(st.dictionaries(KEYS, BARE, min_size=1, max_size=4), st.data())
def test_what_is_cut_or_changed_never_reads_as_something_longer(
    value: dict[str, object], data: st.DataObject
) -> None:
    text = ", ".join(f"{key}={written(member)}" for key, member in value.items())
    found = read_dictionary([text[: data.draw(st.integers(0, len(text)))]])
    assert found is None or len(found) <= len(value)
