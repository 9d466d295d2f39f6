"""Owns the syntax of nginx configuration files: words, blocks, includes. What they mean is ``nginx_routes.py``.

Sans-I/O: who parses says how the files of an ``include`` are read.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

# A file that includes itself must end somewhere; nginx has no such limit and fails for want of memory.
DEPTH_MAX: Final = 20

_ESCAPES: Final = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}
_TOKEN: Final = re.compile(
    r"(?P<blank>\s+|\#[^\n]*)"
    r"|(?P<mark>[;{}])"
    r"|\"(?P<double>(?:[^\"\\]|\\.)*)\"(?=[\s;{)]|$)"
    r"|'(?P<single>(?:[^'\\]|\\.)*)'(?=[\s;{)]|$)"
    r"|(?P<word>(?:\$\{[^}\n]*\}|\\.|[^\s;{\\])+)",
    re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

# The files that an include names: (name, text) of each, or why it cannot be read.
type Reader = Callable[[str], Iterable[tuple[str, str | OSError]]]


class NginxSyntaxError(ValueError):
    """A configuration that nginx would not start with. Says the file, the line and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """One directive. ``block`` is None for one that ends in a semicolon.

    An ``include`` is one only where a file could not be read: ``unread`` says why.
    """

    name: str
    args: tuple[str, ...]
    block: "tuple[Directive, ...] | None"
    file: str
    line: int
    unread: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_mark: bool
    line: int
    end: int


def parse_config(text: str, *, file: str, read: Reader) -> tuple[Directive, ...]:
    """The directives of a file, includes put in their place.

    Raises: NginxSyntaxError.
    """
    return _Parser(text, file, read, depth=0).parse()


class _Parser:
    def __init__(self, text: str, file: str, read: Reader, *, depth: int) -> None:
        self._text = text
        self._file = file
        self._read = read
        self._depth = depth
        self._at = 0
        self._line = 1

    def parse(self) -> tuple[Directive, ...]:
        return tuple(self._directives(opened_at=None))

    def _directives(self, *, opened_at: int | None) -> Iterator[Directive]:
        while True:
            token = self._next()
            if token is None:
                if opened_at is not None:
                    raise self._error(f"the block that begins in line {opened_at} is not closed")
                return
            if token.is_mark:
                if token.text == "}" and opened_at is not None:
                    return
                raise self._error(f"unexpected '{token.text}'")
            yield from self._directive(token)

    def _directive(self, name: _Token) -> Iterator[Directive]:
        args: list[str] = []
        while True:
            token = self._next()
            if token is None or (token.is_mark and token.text == "}"):
                raise self._error(f"the directive '{name.text}' is not ended by ';' or a block")
            if not token.is_mark:
                args.append(token.text)
                continue
            break
        block: tuple[Directive, ...] | None = None
        if token.text == "{":
            if name.text.endswith("_by_lua_block"):
                self._skip_lua()
            else:
                block = tuple(self._directives(opened_at=name.line))
        elif name.text == "include" and len(args) == 1:
            yield from self._include(args[0], name.line)
            return
        yield Directive(name=name.text, args=tuple(args), block=block, file=self._file, line=name.line)

    def _include(self, pattern: str, line: int) -> Iterator[Directive]:
        if self._depth >= DEPTH_MAX:
            raise self._error(f"more than {DEPTH_MAX} includes within each other")
        for file, text in self._read(pattern):
            if isinstance(text, OSError):
                # nginx would not start, but who imports often has only a part of the configuration at hand.
                why = text.strerror or str(text)
                yield Directive(
                    name="include", args=(file,), block=None, file=self._file, line=line, unread=why
                )
            else:
                yield from _Parser(text, file, self._read, depth=self._depth + 1).parse()

    def _skip_lua(self) -> None:
        open_braces = 1
        while open_braces:
            found = re.compile(r"[{}]").search(self._text, self._at)
            if found is None:
                raise self._error("a Lua block is not closed")
            open_braces += 1 if found[0] == "{" else -1
            self._advance(found.end())

    def _next(self) -> _Token | None:
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                raise self._error("a quote is not closed, or is followed by other characters")
            line = self._line
            self._advance(found.end())
            if found["blank"] is not None:
                continue
            if found["mark"] is not None:
                return _Token(found["mark"], True, line, found.end())
            quoted = found["double"] if found["double"] is not None else found["single"]
            if quoted is not None:
                return _Token(_unescape(quoted), False, line, found.end())
            if found["word"][0] in "\"'":
                raise self._error("a quote is not closed, or is followed by other characters")
            return _Token(_unescape(found["word"]), False, line, found.end())
        return None

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _error(self, what: str) -> NginxSyntaxError:
        return NginxSyntaxError(f"{self._file}:{self._line}: {what}")


def _unescape(text: str) -> str:
    # nginx takes only these backslashes away; all others belong to regular expressions.
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[0]), text)
