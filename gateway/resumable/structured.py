"""Owns Structured Fields (RFC 9651), as much as uploads need: items and dictionaries, read strictly.

A field that does not read to its last character is as good as absent (section 4.2), so a reader gives None.
"""

import base64
import binascii
import re
from typing import Final


class Token(str):
    """A bare word, as opposed to a quoted string."""

    __slots__ = ()


type Bare = int | float | bool | str | bytes | Token
type Member = Bare | tuple[Bare, ...]

_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_NUMBER: Final = re.compile(r"-?(?:([0-9]{1,12}\.[0-9]{1,3})|([0-9]{1,15}))(?![0-9.])")
_STRING: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_BOOLEAN: Final = re.compile(r"\?([01])")
_DATE: Final = re.compile(r"@(-?[0-9]{1,15})(?![0-9.])")
_SPACES: Final = re.compile(r" *")
_BLANKS: Final = re.compile(r"[ \t]*")


def read_integer(values: list[str]) -> int | None:
    """The one Integer that a field's lines hold."""
    item = _read_item(values)
    return item if isinstance(item, int) and not isinstance(item, bool) else None


def read_boolean(values: list[str]) -> bool | None:
    """The one Boolean that a field's lines hold."""
    item = _read_item(values)
    return item if isinstance(item, bool) else None


def read_dictionary(values: list[str]) -> dict[str, Member] | None:
    """The Dictionary that a field's lines hold together; parameters are read and dropped."""
    if not values:
        return None
    reader = _Reader(", ".join(values))
    try:
        return reader.dictionary()
    except ValueError:
        return None


def _read_item(values: list[str]) -> Bare | None:
    if len(values) != 1:
        return None  # two lines are joined by a comma, and an Item has none
    reader = _Reader(values[0])
    try:
        return reader.whole_item()
    except ValueError:
        return None


class _Reader:
    """Reads on from ``at``. Every method raises ValueError for what the grammar does not know."""

    def __init__(self, text: str) -> None:
        self._text = text.strip(" ")
        self._at = 0

    def whole_item(self) -> Bare:
        item = self._bare()
        self._parameters()
        if self._at != len(self._text):
            raise ValueError("something follows the item")
        return item

    def dictionary(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        while self._at < len(self._text):
            key = self._take(_KEY)[0]
            members.pop(key, None)  # the last one counts, in its own place
            members[key] = self._member() if self._skip("=") else True
            self._parameters()
            self._take(_BLANKS)
            if self._at == len(self._text):
                break
            if not self._skip(","):
                raise ValueError("no comma between members")
            self._take(_BLANKS)
            if self._at == len(self._text):
                raise ValueError("a comma at the end")
        return members

    def _member(self) -> Member:
        if not self._skip("("):
            return self._bare()
        items: list[Bare] = []
        while True:
            self._take(_SPACES)
            if self._skip(")"):
                return tuple(items)
            items.append(self._bare())
            self._parameters()
            if self._at < len(self._text) and self._text[self._at] not in " )":
                raise ValueError("no space between items")

    def _parameters(self) -> None:
        while self._skip(";"):
            self._take(_SPACES)
            self._take(_KEY)
            if self._skip("="):
                self._bare()

    def _bare(self) -> Bare:
        if found := self._try(_NUMBER):
            return float(found[0]) if found[1] else int(found[0])
        if found := self._try(_STRING):
            return re.sub(r"\\(.)", r"\1", found[1])
        if found := self._try(_BYTES):
            return _decode(found[1])
        if found := self._try(_BOOLEAN):
            return found[1] == "1"
        if found := self._try(_DATE):
            return int(found[1])
        return Token(self._take(_TOKEN)[0])

    def _skip(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._at)
        self._at += found
        return found

    def _try(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = self._try(pattern)
        if found is None:
            raise ValueError(f"not {pattern.pattern!r} at {self._at}")
        return found


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as exc:
        raise ValueError("not Base64") from exc
