"""Compares our decoder with three others. Each disagreement has its reason here and its line in docs/multipart.md."""

from pathlib import Path

import pytest

from tests.support.form_peers import PEERS, Outcome, ours
from tests.support.forms import form, part

DOCS = Path(__file__).parents[4] / "docs" / "multipart.md"
TYPE = "multipart/form-data; boundary=b"
A = part('name="a"', b"v")
F = 'name="f"; filename="x"'


def _with(params: str, data: bytes = b"d") -> bytes:
    return form(part(params, data))


# Forms that everybody reads alike.
AGREED: dict[str, tuple[str, bytes]] = {
    "a field and a file": (TYPE, form(A, part(F + "\r\nContent-Type: a/b", b"data"))),
    "no part": (TYPE, b"--b--\r\n"),
    "an epilogue": (TYPE, form(A) + b"text"),
    "no CRLF at the end": (TYPE, form(A)[:-2]),
    "LF at the end": (TYPE, form(A)[:-2] + b"\n"),
    "no Content-Disposition": (TYPE, b"--b\r\nContent-Type: text/plain\r\n\r\nv\r\n--b--\r\n"),
    "no headers": (TYPE, b"--b\r\n\r\nv\r\n--b--\r\n"),
    "percent-encoded UTF-8": (TYPE, _with('name="f"; filename="t%C3%A9"')),
    "an escaped quote": (TYPE, _with('name="f"; filename="a\\"b"')),
    "a path": (TYPE, _with('name="f"; filename="../a"')),
    "an empty file input": (TYPE, _with('name="f"; filename=""', b"")),
    "tokens without quotes": (TYPE, _with("name=f; filename=x.sif")),
    "a nested form": (
        TYPE,
        _with(F + "\r\nContent-Type: multipart/mixed; boundary=c", b"--c\r\n\r\n1\r\n--c--"),
    ),
    "filename* before filename": (TYPE, _with('name="f"; filename*=utf-8\'\'e.php; filename="x"')),
    "no boundary": ("multipart/form-data", form(A)),
    "a quoted boundary with a space": (
        'multipart/form-data; boundary="a b"',
        form(A).replace(b"--b", b"--a b"),
    ),
    "two boundary parameters": (TYPE + "; boundary=c", form(A)),
    "upper case in Content-Type": ("Multipart/Form-Data; Boundary=b", form(A)),
    "another boundary": (TYPE, form(A).replace(b"--b", b"--c")),
}

# Forms that they do not: (content type, body, why ours does what it does).
DISPUTED: dict[str, tuple[str, bytes, str]] = {
    "text before the first delimiter": (
        TYPE, b"text\r\n" + form(A), "RFC 2046 allows a preamble; it is skipped, up to a limit"),
    "text right behind the closing delimiter": (
        TYPE, form(A)[:-2] + b"X", "with a boundary `b--X` it would be no end; refused, so that no file is cut short"),
    "blanks behind a delimiter": (
        TYPE, form(A).replace(b"--b\r\n", b"--b \t\r\n"), "RFC 2046 transport padding"),
    "all lines end in LF": (
        TYPE, form(A).replace(b"\r\n", b"\n"), "a file may hold LF lines; only CR LF delimits"),
    "a delimiter ends in LF": (
        TYPE, form(A, A).replace(b"v\r\n--b\r\n", b"v\r\n--b\n"), "one reads it as data, one as a delimiter: refused"),
    "LF before a delimiter": (
        TYPE, _with(F, b"x\n--b\r\ny"), "only CR LF delimits; this is data"),
    "`--bX` in data": (TYPE, _with(F, b"x\r\n--bX\r\ny"), "a longer line is not the delimiter; this is data"),
    "`--b-X` in data": (TYPE, _with(F, b"x\r\n--b-X\r\ny"), "as above"),
    "`--b X` in data": (TYPE, _with(F, b"x\r\n--b X\r\ny"), "as above"),
    "data begins with `--b`": (
        TYPE, _with(F, b"--b\r\ny"), "without its own CR LF it is no delimiter; this is data"),
    "the body is cut in a file": (TYPE, part(F, b"data"), "what is not whole is not a form"),
    "the body is cut in the closing delimiter": (TYPE, part(F, b"data") + b"--b-", "as above"),
    "the body ends after a delimiter": (TYPE, part(F, b"data") + b"--b\r\n", "as above"),
    "an empty body": (TYPE, b"", "as above"),
    "no name": (TYPE, _with('filename="x"'), "RFC 7578 demands a name"),
    "disposition `attachment`": (
        TYPE, form(A).replace(b"form-data", b"attachment"), "RFC 7578 demands `form-data`"),
    "two Content-Dispositions": (
        TYPE, _with('name="a"\r\nContent-Disposition: form-data; name="z"'), "first or last? refused"),
    "two names": (TYPE, _with('name="a"; name="z"'), "first or last? refused"),
    "two file names": (TYPE, _with('name="a"; filename="y"; filename="z"'), "first or last? refused"),
    "two Content-Types": (TYPE, _with(F + "\r\nContent-Type: a/b\r\nContent-Type: c/d"), "first or last? refused"),
    "`filename*` alone": (
        TYPE, _with("name=\"f\"; filename*=utf-8''t%C3%A9st"),
        "RFC 7578 forbids it; as a field it would lose the file, decoded it was used to smuggle names"),
    "`filename*` after `filename`": (
        TYPE, _with("name=\"f\"; filename=\"x\"; filename*=utf-8''evil.php"), "only `filename` counts (.NET sends both)"),
    "`%22`, `%0D`, `%0A` in a file name": (
        TYPE, _with('name="f"; filename="a%22b%0D%0A"'), "HTML escapes just these three"),
    "two backslashes": (TYPE, _with('name="f"; filename="a\\\\b"'), "escaped so by old curl"),
    "one backslash": (TYPE, _with('name="f"; filename="C:\\new\\b"'), "sent raw by browsers; kept to show"),
    "a backslash before the last quote": (
        TYPE, _with('name="f"; filename="a\\"'), "an escaped quote or the end? refused"),
    "a file name in Latin-1": (
        TYPE, _with(F).replace(b'"x"', b'"\xe9"'), "only shown: U+FFFD is no reason to refuse gigabytes"),
    "a field name in Latin-1": (TYPE, _with('name="X"').replace(b'"X"', b'"\xe9"'), "a name has a meaning: refused"),
    "a space in an unquoted value": (TYPE, _with("name=f; filename=a b"), "where does it end? refused"),
    "blanks around `=`": (TYPE, _with('name = "f"'), "the name is lost in others; refused"),
    "no semicolon": (TYPE, _with('name="f" filename="x"'), "the file name is lost in others; refused"),
    "Content-Transfer-Encoding: base64": (
        TYPE, _with(F + "\r\nContent-Transfer-Encoding: base64", b"dg=="), "decoded or not? refused"),
    "a folded header": (
        TYPE, _with('name="f";\r\n filename="x"'), "RFC 2046 headers may be folded; it can mean one thing only"),
    "a blank before the first header": (
        TYPE, form(A).replace(b"Content-D", b" Content-D"), "a continuation of nothing (crashed one parser)"),
    "NUL in a name": (TYPE, _with('name="a\0b"'), "control characters cut names elsewhere; refused"),
    "a header line without colon": (TYPE, _with('name="a"\r\nvalue'), "the blank line is missing: no header"),
    "a blank before the colon": (TYPE, _with('name="a"\r\nX : y'), "as RFC 9112 demands; it hid headers elsewhere"),
    "9 headers": (TYPE, _with('name="a"' + "\r\nX: y" * 8), "the limit is 16"),
    "17 headers": (TYPE, _with('name="a"' + "\r\nX: y" * 16), "the limit is 16"),
    "a header of 6000 bytes": (TYPE, _with('name="a"\r\nX: ' + "y" * 6000), "the limit is 8 KiB a part (long names)"),
    "a field that is not UTF-8": (TYPE, _with('name="a"', b"\xff"), "bytes are handed on as they came"),
    "a boundary of 71 characters": (
        f"multipart/form-data; boundary={'b' * 71}", form(A).replace(b"--b", b"--" + b"b" * 71), "RFC 2046: 70"),
    "`*` in the boundary": (
        "multipart/form-data; boundary=a*b", form(A).replace(b"--b", b"--a*b"), "not a character of RFC 2046"),
    "two Content-Types in one line": (
        "multipart/form-data; boundary=b, text/plain", form(A), "which of them? refused"),
    "101 fields": (TYPE, form(*[part('name="a"')] * 101), "`limits.form_fields`"),
}  # fmt: skip


def _alike(one: Outcome, other: Outcome) -> bool:
    if one is None or other is None:
        return one is other
    return sorted(map(repr, one)) == sorted(map(repr, other))


def _word(outcome: Outcome, our_outcome: Outcome) -> str:
    if outcome is None:
        return "refused"
    if our_outcome is None:
        return "read"
    return "as ours" if _alike(outcome, our_outcome) else "read otherwise"


def table_line(name: str) -> str:
    """The line of the documentation's table for a disputed form."""
    content_type, body, why = DISPUTED[name]
    our_outcome = ours(content_type, body)
    words = [_word(peer(content_type, body), our_outcome) for peer in PEERS.values()]
    our_word = "refused" if our_outcome is None else "read"
    return f"| {name} | **{our_word}** | {' | '.join(words)} | {why} |"


@pytest.mark.parametrize("name", AGREED)
def test_others_read_it_the_same(name: str) -> None:
    content_type, body = AGREED[name]
    for peer_name, peer in PEERS.items():
        assert _alike(peer(content_type, body), ours(content_type, body)), peer_name


@pytest.mark.parametrize("name", DISPUTED)
def test_a_disagreement_is_documented_as_it_is(name: str) -> None:
    content_type, body, _ = DISPUTED[name]
    our_outcome = ours(content_type, body)
    assert not all(_alike(peer(content_type, body), our_outcome) for peer in PEERS.values())
    assert table_line(name) in DOCS.read_text().splitlines()
