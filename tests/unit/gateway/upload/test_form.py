"""Tests of the decoder: each form is read the same however it is cut, or refused however it is cut."""

import pytest

from gateway.errors import BadForm
from gateway.upload.form import FormDecoder, FormEnd, PartBegin, PartData
from tests.support.forms import LIMITS, form, part, read_events, read_form

FIELD = 'name="a"'
FILE = 'name="f"; filename="x.sif"'

# What a form holds: (name, filename or None, data) for each part.
FORMS: dict[str, tuple[bytes, list[tuple[str, str | None, bytes]]]] = {
    "one field": (form(part(FIELD, b"value")), [("a", None, b"value")]),
    "no part at all": (b"--b--\r\n", []),
    "no CRLF at the end": (form(part(FIELD, b"v"))[:-2], [("a", None, b"v")]),
    "LF at the end": (form(part(FIELD, b"v"))[:-2] + b"\n", [("a", None, b"v")]),
    "blanks at the end": (form(part(FIELD, b"v"))[:-2] + b" \t", [("a", None, b"v")]),
    "an empty field": (form(part(FIELD)), [("a", None, b"")]),
    "an empty file": (form(part(FILE)), [("f", "x.sif", b"")]),
    "a field and a file": (
        form(part(FIELD, b"v"), part(FILE + "\r\nContent-Type: application/octet-stream", b"data")),
        [("a", None, b"v"), ("f", "x.sif", b"data")],
    ),
    "one name many times": (
        form(*[part('name="f[]"; filename="x"', bytes([n])) for n in range(3)]),
        [("f[]", "x", bytes([n])) for n in range(3)],
    ),
    "a preamble": (b"text\r\n\r\n--c\r\n--b-text\r\n" + form(part(FIELD, b"v")), [("a", None, b"v")]),
    "an empty line first": (b"\r\n" + form(part(FIELD, b"v")), [("a", None, b"v")]),
    "an epilogue": (form(part(FIELD, b"v")) + b"text\n--b\r\n--b--", [("a", None, b"v")]),
    "transport padding": (
        form(part(FIELD, b"v")).replace(b"--b\r\n", b"--b \t\r\n").replace(b"--b--", b"--b-- \t"),
        [("a", None, b"v")],
    ),
    "data that is a delimiter but for its end": (
        form(part(FILE, b"x\r\n--bX\r\n--b-\r\n--b-\n--b -\r\n--b\r\r\n--b \rx\r\n--\r\n-\r\n--a")),
        [("f", "x.sif", b"x\r\n--bX\r\n--b-\r\n--b-\n--b -\r\n--b\r\r\n--b \rx\r\n--\r\n-\r\n--a")],
    ),
    "data that begins and ends with beginnings of a delimiter": (
        form(part(FILE, b"\r\n--\r\n-\r\r\n--\r\n\r")),
        [("f", "x.sif", b"\r\n--\r\n-\r\r\n--\r\n\r")],
    ),
    "data of line ends": (form(part(FILE, b"\r\n\r\n\n\r\r")), [("f", "x.sif", b"\r\n\r\n\n\r\r")]),
    "a delimiter without CRLF before it is data": (
        form(part(FILE, b"a--b\r\nb\n--b\r\nc\n--b--\r\n")),
        [("f", "x.sif", b"a--b\r\nb\n--b\r\nc\n--b--\r\n")],
    ),
    "data that begins with the boundary": (form(part(FILE, b"--b\r\nX")), [("f", "x.sif", b"--b\r\nX")]),
    "a nested form is one opaque file": (
        form(
            part(FILE + "\r\nContent-Type: multipart/mixed; boundary=c", b"--c\r\nX: y\r\n\r\n1\r\n--c--\r\n")
        ),
        [("f", "x.sif", b"--c\r\nX: y\r\n\r\n1\r\n--c--\r\n")],
    ),
    "_charset_ is a field like any": (
        form(part('name="_charset_"', b"iso-8859-1"), part(FIELD, b"\xc3\xa9")),
        [("_charset_", None, b"iso-8859-1"), ("a", None, b"\xc3\xa9")],
    ),
    "an empty name": (form(part('name=""', b"v")), [("", None, b"v")]),
    "a file without a name but with content": (
        form(part('name="f"; filename=""', b"v")),
        [("f", "", b"v")],
    ),
}

REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "a line end": b"\r\n",
    "text": b"text",
    "another boundary": b'--c\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n--c--\r\n',
    "half a boundary": b"--",
    "a delimiter alone": b"--b",
    "a delimiter line alone": b"--b\r\n",
    "half a closing delimiter": b"--b-",
    "cut in a header": b"--b\r\nContent-Disp",
    "cut in data": part(FILE, b"data"),
    "cut in data, within a delimiter": part(FILE, b"data") + b"--",
    "no closing dashes": part(FIELD, b"v") + b"--b\r\n",
    "one closing dash": part(FIELD, b"v") + b"--b-",
    "text behind the closing dashes": part(FIELD, b"v") + b"--b--X",
    "text behind the closing blanks": part(FIELD, b"v") + b"--b-- X",
    "a closing CR alone": part(FIELD, b"v") + b"--b--\r",
    "a closing CR and no LF": part(FIELD, b"v") + b"--b--\r\r\n",
    "LF after a delimiter": form(part(FIELD, b"v")).replace(b"--b\r\n", b"--b\n"),
    "LF after a padded delimiter": form(part(FIELD, b"v")).replace(b"--b\r\n", b"--b \n"),
    "LF throughout": form(part(FIELD, b"v")).replace(b"\r\n", b"\n"),
    "LF between headers and data": form(part(FIELD, b"v")).replace(b"\r\n\r\n", b"\r\n\n"),
    "LF after a later delimiter": form(part(FILE, b"1"), part(FIELD, b"2")).replace(
        b"1\r\n--b\r\n", b"1\r\n--b\n"
    ),
    "too much padding": form(part(FIELD, b"v")).replace(b"--b\r\n", b"--b" + b" " * 128 + b"\r\n"),
    "no headers": b"--b\r\n\r\nv\r\n--b--\r\n",
    "no blank line": b'--b\r\nContent-Disposition: form-data; name="a"\r\nvalue\r\n--b--\r\n',
    "no Content-Disposition": b"--b\r\nContent-Type: text/plain\r\n\r\nv\r\n--b--\r\n",
    "no name": form(part('filename="x"', b"v")),
    "two Content-Dispositions": form(part(FIELD + '\r\nContent-Disposition: form-data; name="b"', b"v")),
    "base64": form(part(FILE + "\r\nContent-Transfer-Encoding: base64", b"dg==")),
    "a bad part after a good one": form(part(FILE, b"data"), part("!", b"v")),
}


@pytest.mark.parametrize(("body", "parts"), FORMS.values(), ids=FORMS.keys())
def test_a_form_is_read_the_same_however_it_is_cut(
    body: bytes, parts: list[tuple[str, str | None, bytes]]
) -> None:
    for cuts in _every_cut(body):
        assert [(p.name, p.filename, p.data) for p in read_form(body, cuts=cuts)] == parts, cuts


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_a_form_that_could_be_misread_is_refused_however_it_is_cut(body: bytes) -> None:
    for cuts in _every_cut(body):
        with pytest.raises(BadForm):
            read_form(body, cuts=cuts)


def test_every_beginning_of_a_form_is_refused() -> None:
    body = form(part(FIELD, b"v"), part(FILE, b"da\r\n--bta"))
    whole = len(body) - 2  # the last CRLF may be missing, but not half of it
    for length in [*range(whole), whole + 1]:
        with pytest.raises(BadForm):
            read_form(body[:length])


@pytest.mark.parametrize("boundary", [b"b", b"-", b"--", b"a b", b"'()+_,-./:=?", b"0" * 70])
def test_any_legal_boundary_delimits(boundary: bytes) -> None:
    data = b"\r\n--" + boundary[:-1] + b"\r\n--" + boundary + b"x\r\n-"
    body = form(part(FILE, data)).replace(b"--b\r\n", b"--" + boundary + b"\r\n")
    body = body.replace(b"--b--", b"--" + boundary + b"--")
    for cut in range(len(body)):
        (only,) = read_form(body, boundary, cuts=[cut])
        assert only.data == data


def test_a_file_input_left_empty_is_no_file() -> None:
    body = form(part('name="f"; filename=""\r\nContent-Type: application/octet-stream'))
    for cuts in _every_cut(body):
        (only,) = read_form(body, cuts=cuts)
        assert only.begin.no_file_chosen
        assert not only.begin.is_file
        assert only.filename == ""


def test_content_makes_a_file_of_an_input_without_a_file_name() -> None:
    body = form(part('name="f"; filename=""', b"\r"))
    for cuts in _every_cut(body):
        (only,) = read_form(body, cuts=cuts)
        assert only.begin.is_file
        assert not only.begin.no_file_chosen


def test_a_path_is_shown_but_only_its_base_name_counts() -> None:
    (only,) = read_form(form(part('name="f"; filename="C:\\dir\\x.sif"')))
    assert (only.filename, only.begin.filename_as_sent) == ("x.sif", "C:\\dir\\x.sif")
    assert only.begin.is_file


def test_a_part_begins_before_its_data_has_arrived() -> None:
    decoder = FormDecoder(b"b", LIMITS)
    block = bytearray(part(FILE, b"")[:-2])
    (begin,) = decoder.feed(block, 0, len(block))
    assert isinstance(begin, PartBegin)


def test_data_is_a_slice_of_the_callers_block() -> None:
    decoder = FormDecoder(b"b", LIMITS)
    head = bytearray(part(FILE, b"")[:-2])
    assert len(list(decoder.feed(head, 0, len(head)))) == 1
    block = bytearray(b"0123456789")
    (event,) = decoder.feed(block, 2, 8)
    assert isinstance(event, PartData)
    assert isinstance(event.data, memoryview)
    block[2:8] = b"abcdef"  # no copy was made
    assert bytes(event.data) == b"abcdef"


def test_a_whole_block_of_data_is_one_event_in_spite_of_lookalikes() -> None:
    decoder = FormDecoder(b"b", LIMITS)
    head = bytearray(part(FILE, b"")[:-2])
    assert len(list(decoder.feed(head, 0, len(head)))) == 1
    block = bytearray(b"\r\n--bX" * 1000)
    assert [len(event.data) for event in decoder.feed(block, 0, 6000) if isinstance(event, PartData)] == [
        6000
    ]


def test_an_empty_block_changes_nothing() -> None:
    decoder = FormDecoder(b"b", LIMITS)
    assert list(decoder.feed(bytearray(b"--b--"), 0, 0)) == []
    assert list(decoder.feed(bytearray(b"--b--"), 0, 5)) == [FormEnd()]
    decoder.finish()


@pytest.mark.parametrize("body", [REFUSED["no headers"], REFUSED["text behind the closing dashes"]])
def test_a_refused_form_stays_refused(body: bytes) -> None:
    decoder = FormDecoder(b"b", LIMITS)
    with pytest.raises(BadForm):
        list(decoder.feed(bytearray(body), 0, len(body)))
    with pytest.raises(BadForm):
        decoder.finish()
    with pytest.raises(BadForm, match="refused before"):
        list(decoder.feed(bytearray(b"\r\n--b--"), 0, 7))


def test_the_form_ends_at_its_closing_delimiter() -> None:
    events = list(read_events([form(part(FIELD, b"v")) + b"--b\r\n"], b"b"))
    assert events[-1] == FormEnd()
    assert events.count(FormEnd()) == 1


def _every_cut(body: bytes) -> list[list[int]]:
    """Whole, at each single place, and into single bytes."""
    return [[], *([cut] for cut in range(1, len(body))), list(range(1, len(body)))]
