"""Tests of a part's header block."""

import pytest

from gateway.errors import BadForm
from gateway.upload.part_head import read_part_head

NAMED = b'Content-Disposition: form-data; name="a"'


def test_names_are_lower_case_and_values_lose_their_outer_blanks() -> None:
    head = read_part_head(NAMED + b"\r\nX-Some:\t two words \t\r\nCONTENT-TYPE:text/plain", max_headers=16)
    assert head.headers[1:] == (("x-some", "two words"), ("content-type", "text/plain"))
    assert head.content_type == "text/plain"


@pytest.mark.parametrize("line", [b"", b"\r\nContent-Type:", b"\r\nContent-Type: "])
def test_a_part_without_a_type_has_none(line: bytes) -> None:
    assert read_part_head(NAMED + line, max_headers=16).content_type is None


def test_a_folded_line_is_one_line() -> None:
    head = read_part_head(NAMED + b';\r\n\t filename="f.txt"', max_headers=16)
    assert head.disposition.filename == "f.txt"


def test_bytes_that_are_not_utf_8_become_readable_in_what_is_only_shown() -> None:
    head = read_part_head(NAMED + b'; filename="\xe9"\r\nX-A: \xe9\r\nContent-Type: a/\xe9', max_headers=16)
    assert head.disposition.filename == "\ufffd"
    assert head.content_type == "a/\ufffd"
    assert "".join(value for _, value in head.headers).isprintable()


@pytest.mark.parametrize("encoding", [b"binary", b"8bit", b"7BIT"])
def test_an_encoding_that_changes_nothing_is_accepted(encoding: bytes) -> None:
    head = read_part_head(NAMED + b"\r\nContent-Transfer-Encoding: " + encoding, max_headers=16)
    assert head.disposition.name == "a"


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Content-Type: text/plain",
        b" " + NAMED,
        b"\r\n" + NAMED,
        NAMED + b"\r\n",
        NAMED + b"\r\nvalue",
        NAMED + b"\r\n: value",
        NAMED + b"\r\nX-A : value",
        NAMED + b"\r\nX\xc3\xa9: value",
        NAMED + b"\nContent-Type: text/plain",
        NAMED + b"\rContent-Type: text/plain",
        NAMED + b"\r\nX-A: a\x00b",
        b'Content-Disposition: form-data; name="a\x00b"',
        b'Content-Disposition: form-data; name="a\x1fb"',
        b'Content-Disposition: form-data; name="a\x7fb"',
        NAMED + b"\r\n" + NAMED,
        NAMED + b"\r\nContent-Type: a/b\r\ncontent-type: c/d",
        NAMED + b"\r\nContent-Transfer-Encoding: base64",
        NAMED + b"\r\nContent-Transfer-Encoding: quoted-printable",
        NAMED + b"\r\nContent-Transfer-Encoding:",
        NAMED + b"\r\nContent-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: base64",
    ],
)
def test_a_head_that_could_be_misread_is_refused(block: bytes) -> None:
    with pytest.raises(BadForm):
        read_part_head(block, max_headers=16)


@pytest.mark.parametrize(("lines", "accepted"), [(15, True), (16, True), (17, False)])
def test_the_number_of_headers_is_limited(lines: int, accepted: bool) -> None:
    block = NAMED + b"\r\nX-A: b" * (lines - 1)
    if accepted:
        assert len(read_part_head(block, max_headers=16).headers) == lines
    else:
        with pytest.raises(BadForm, match="more than 16 headers"):
            read_part_head(block, max_headers=16)
