"""Tests of nginx's syntax."""

from collections.abc import Iterable

import pytest

from gateway.nginx_config import Directive, NginxSyntaxError, parse_config

FILES = {"/etc/nginx/mime.types": "types { text/html html; }", "/etc/nginx/loop.conf": "include loop.conf;"}


def _read(pattern: str) -> Iterable[tuple[str, str | OSError]]:
    if "*" in pattern:
        return [("a.conf", "a 1;"), ("b.conf", "b 2;")]
    name = f"/etc/nginx/{pattern}"
    if name not in FILES:
        return [(name, FileNotFoundError(2, "No such file or directory"))]
    return [(name, FILES[name])]


def _parse(text: str) -> tuple[Directive, ...]:
    return parse_config(text, file="nginx.conf", read=_read)


def _flat(directives: tuple[Directive, ...]) -> list[object]:
    return [[d.name, *d.args] if d.block is None else [d.name, *d.args, _flat(d.block)] for d in directives]


WORDS: dict[str, list[object]] = {
    "": [],
    "# only a comment": [],
    "a;": [["a"]],
    "a b  c;d e;": [["a", "b", "c"], ["d", "e"]],
    "a 'b c' \"d;e\" '';": [["a", "b c", "d;e", ""]],
    "a b#c; # comment; }": [["a", "b#c"]],
    "a {b c;d {e;}}": [["a", [["b", "c"], ["d", [["e"]]]]]],
    "location ~* \\.(php|asp)$ {deny all;}": [["location", "~*", "\\.(php|asp)$", [["deny", "all"]]]],
    "a ${b}c '$d';": [["a", "${b}c", "$d"]],
    'a "say \\"hi\\"" b\\;c;': [["a", 'say "hi"', "b\\;c"]],
    "a '^\\d+$' \"\\\\\";": [["a", "^\\d+$", "\\"]],
    "a 'two\nlines';\nb;": [["a", "two\nlines"], ["b"]],
    "content_by_lua_block { if x { y } 'z' } b;": [["content_by_lua_block"], ["b"]],
    "if ($a = 'b') { return 403; }": [["if", "($a", "=", "b", ")", [["return", "403"]]]],
    "include mime.types; b;": [["types", [["text/html", "html"]]], ["b"]],
    "http { include conf.d/*.conf; }": [["http", [["a", "1"], ["b", "2"]]]],
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items())
def test_a_configuration_is_read_as_nginx_reads_it(text: str, expected: list[object]) -> None:
    assert _flat(_parse(text)) == expected


def test_each_directive_knows_its_place() -> None:
    (first, second) = _parse("# c\na\n  b;\ninclude mime.types;")
    assert (first.place, second.place) == ("nginx.conf:2", "/etc/nginx/mime.types:1")


def test_a_file_that_is_not_there_stays_an_include_and_the_rest_is_read() -> None:
    first, include, last = _parse("a;\ninclude nosuch;\nb;")
    assert (first.name, include.name, last.name) == ("a", "include", "b")
    assert (include.args, include.line) == (("/etc/nginx/nosuch",), 2)
    assert include.unread == "No such file or directory"


BROKEN = {
    "a": "'a' is not ended",
    "a b": "'a' is not ended",
    "a }": "'a' is not ended",
    "}": "unexpected '}'",
    ";": "unexpected ';'",
    "a {\nb;": "line 1 is not closed",
    "a 'b;": "quote is not closed",
    'a "b"c;': "followed by other",
    "a\n'b": "nginx.conf:2: a quote",
    "include loop.conf;": "20 includes",
    "x_by_lua_block { {": "Lua block is not closed",
}


@pytest.mark.parametrize(("text", "sentence"), BROKEN.items())
def test_what_nginx_would_not_start_with_is_an_error(text: str, sentence: str) -> None:
    with pytest.raises(NginxSyntaxError, match=sentence):
        _parse(text)
