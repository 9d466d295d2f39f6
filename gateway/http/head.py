"""Owns what a request head is: a frozen value, str throughout, names in lower case."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.contract import prefers_html

type Field = tuple[str, str]


class Fields(tuple[Field, ...]):
    """Header fields in order of arrival. Names are lower case; values carry no space at their ends (latin-1)."""

    __slots__ = ()

    def get(self, name: str, default: str = "") -> str:
        """The first value of ``name``."""
        for known, value in self:
            if known == name:
                return value
        return default

    def all(self, name: str) -> list[str]:
        """Every value of ``name``."""
        return [value for known, value in self if known == name]

    def has(self, name: str) -> bool:
        """Whether ``name`` was sent at all."""
        for known, _ in self:  # noqa: SIM110 - half the time of any()
            if known == name:
                return True
        return False

    def items_of(self, name: str) -> Iterator[str]:
        """The elements of a comma-separated list field, stripped, over all its lines (RFC 9110 section 5.6.1)."""
        for value in self.all(name):
            for item in value.split(","):
                if stripped := item.strip(" \t"):
                    yield stripped


@dataclass(frozen=True, slots=True)
class NoBody:
    """The request has no content."""


@dataclass(frozen=True, slots=True)
class Sized:
    """``Content-Length``: this many bytes."""

    length: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """``Transfer-Encoding: chunked``, or an HTTP/2 stream without a length: as many bytes as come."""


type Framing = NoBody | Sized | Chunked

NO_BODY: Final = NoBody()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """One request head that was proven unambiguous.

    target: origin-form (``/path?query``) or ``*``, ASCII without spaces, as it came.
    minor: 1 for HTTP/1.1, 0 for HTTP/1.0; 1 for HTTP/2, which can whatever HTTP/1.1 can.
    major: 2 for HTTP/2.
    """

    method: str
    target: str
    fields: Fields
    framing: Framing
    minor: int = 1
    keep_alive: bool = True
    expects_continue: bool = False
    major: int = 1

    @property
    def version(self) -> str:
        """The version of HTTP, as ``Via`` tells it."""
        return f"1.{self.minor}" if self.major == 1 else f"{self.major}.0"

    @property
    def path(self) -> str:
        """The target up to its query, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query without ``?``, still percent-encoded."""
        return self.target.partition("?")[2]

    @property
    def host(self) -> str:
        """The Host field, lower case, with its port if it has one."""
        return self.fields.get("host").lower()

    @property
    def content_length(self) -> int | None:
        """Declared bytes of the body; 0 without a body, None when chunked."""
        match self.framing:
            case Sized(length):
                return length
            case NoBody():
                return 0
            case Chunked():
                return None

    @property
    def wants_html(self) -> bool:
        """Whether a browser asks. Library clients send no Accept at all (library-protocol: section 10)."""
        return prefers_html(self.fields.items_of("accept"))
