"""Owns how the bytes of an upstream become an answer: strict, sans I/O (RFC 9112)."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from gateway.errors import UpstreamProtocol
from gateway.http.head import Field, Fields

HEAD_MAX_BYTES: Final = 64 * 1024  # twice what we take from clients: applications set many cookies
_TRAILERS_MAX_BYTES: Final = 16 * 1024
_CHUNK_LINE_MAX_BYTES: Final = 1024  # a size and whatever extensions; h11 takes 20 digits, nobody needs more
_INTERIM_MAX: Final = 16  # more 1xx than this is a loop
_FIELD_TEXT: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
CONTINUE: Final = 100
SWITCHING: Final = 101
FIRST_FINAL: Final = 200
_FRAMING_FIELDS: Final = frozenset({"content-length", "transfer-encoding", "connection"})


class _State(Enum):
    HEAD = auto()
    SIZED = auto()
    UNTIL_CLOSE = auto()
    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    TUNNEL = auto()
    COMPLETE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """One head of an upstream. ``length`` is the declared Content-Length, None without one."""

    status: int
    fields: Fields
    minor: int
    keep_alive: bool
    length: int | None
    is_chunked: bool


class AnswerDecoder:
    """Takes bytes, keeps what they mean. One per connection; ``begin`` starts the answer to the next request.

    head: the final head, once it came.      interim: 1xx heads that came before it, oldest first.
    buffered: bytes of content not yet taken.  has_begun: at least one byte came.
    """

    __slots__ = (
        "_is_head_request",
        "_left",
        "_may_upgrade",
        "_pieces",
        "_seen_interim",
        "_state",
        "_tail",
        "_was_closed",
        "buffered",
        "has_begun",
        "head",
        "interim",
        "trailers",
    )

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.interim: list[AnswerHead] = []
        self.begin("GET", may_upgrade=False)

    def begin(self, method: str, *, may_upgrade: bool) -> None:
        """Forget the last answer and expect the one to ``method``."""
        self._is_head_request = method == "HEAD"
        self._may_upgrade = may_upgrade
        self._state = _State.HEAD
        self._tail = b""
        self._left = 0
        self._seen_interim = 0
        self._was_closed = False
        self._pieces.clear()
        self.interim.clear()
        self.buffered = 0
        self.has_begun = False
        self.head: AnswerHead | None = None
        self.trailers = Fields()

    @property
    def is_complete(self) -> bool:
        """The last byte of the answer came."""
        return self._state is _State.COMPLETE

    @property
    def is_tunnel(self) -> bool:
        """The upstream switched protocols: everything is content until it closes."""
        return self._state is _State.TUNNEL

    @property
    def is_reusable(self) -> bool:
        """The connection may carry another request: a whole answer came, nothing more, and it said so."""
        head = self.head
        return (
            self.is_complete and not (self._tail or self._was_closed) and head is not None and head.keep_alive
        )

    @property
    def awaits(self) -> int:
        """Bytes of content that a sized answer still lacks, 0 for any other."""
        return self._left if self._state is _State.SIZED else 0

    def take(self) -> bytes:
        """The content that came since the last time."""
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered = 0
        return content

    def feed(self, data: bytes) -> None:
        """Take ``data``. Raises: UpstreamProtocol."""
        self.has_begun = True
        if self._tail:
            data = self._tail + data
            self._tail = b""
        position = 0
        while position < len(data):
            if self._state is _State.COMPLETE:
                self._tail = data[position:]
                return
            used = self._step(data, position)
            if used < 0:
                self._tail = data[position:]
                return
            position = used

    def end(self) -> None:
        """The upstream closed. Raises: UpstreamProtocol if something is missing."""
        if self._state in {_State.UNTIL_CLOSE, _State.TUNNEL}:
            self._state = _State.COMPLETE
            self._was_closed = True
        elif self._state is not _State.COMPLETE:
            what = "in the middle of its answer" if self.has_begun else "without an answer"
            raise UpstreamProtocol(detail=f"the upstream closed {what}")

    def _step(self, data: bytes, position: int) -> int:
        """Use bytes from ``position``; the new position, or -1 if more bytes are needed."""
        match self._state:
            case _State.HEAD:
                return self._read_head(data, position)
            case _State.SIZED | _State.CHUNK:
                return self._read_sized(data, position)
            case _State.CHUNK_LINE:
                return self._read_chunk_line(data, position)
            case _State.CHUNK_END:
                return self._read_chunk_end(data, position)
            case _State.TRAILERS:
                return self._read_trailers(data, position)
            case _:
                self._keep(data[position:] if position else data)
                return len(data)

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.buffered += len(piece)

    def _read_head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", position)
        if (len(data) if end < 0 else end) - position > HEAD_MAX_BYTES:
            raise UpstreamProtocol(detail=f"the upstream's head exceeds {HEAD_MAX_BYTES} bytes")
        if end < 0:
            # A head without CRLF would otherwise only end by a timeout.
            if b"\n\n" in data or data[position : position + 5] != b"HTTP/"[: len(data) - position]:
                raise UpstreamProtocol(detail="the upstream's answer is not HTTP/1")
            return -1
        head = parse_answer_head(data[position:end])
        if head.status < FIRST_FINAL and head.status != SWITCHING:
            self._seen_interim += 1
            if self._seen_interim > _INTERIM_MAX:
                raise UpstreamProtocol(detail=f"the upstream sent more than {_INTERIM_MAX} interim answers")
            self.interim.append(head)
        else:
            self._state = self._content_state(head)
            self.head = head
        return end + 4

    def _content_state(self, head: AnswerHead) -> _State:
        """RFC 9112 section 6.3."""
        if head.status == SWITCHING:
            if not self._may_upgrade:
                raise UpstreamProtocol(detail="the upstream switched protocols unasked")
            return _State.TUNNEL
        if self._is_head_request or head.status in {204, 304} or head.length == 0:
            return _State.COMPLETE
        if head.is_chunked:
            return _State.CHUNK_LINE
        if head.length is None:
            return _State.UNTIL_CLOSE
        self._left = head.length
        return _State.SIZED

    def _read_sized(self, data: bytes, position: int) -> int:
        end = min(position + self._left, len(data))
        self._keep(data if end - position == len(data) else data[position:end])
        self._left -= end - position
        if not self._left:
            self._state = _State.COMPLETE if self._state is _State.SIZED else _State.CHUNK_END
        return end

    def _read_chunk_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position, position + _CHUNK_LINE_MAX_BYTES)
        if end < 0:
            if len(data) - position >= _CHUNK_LINE_MAX_BYTES or b"\n" in data[position:]:
                raise UpstreamProtocol(detail="the upstream sent a malformed chunk")
            return -1
        match = _CHUNK_LINE.fullmatch(data, position, end)
        if match is None:
            raise UpstreamProtocol(detail="the upstream sent a malformed chunk size")
        self._left = int(match[1], 16)
        self._state = _State.CHUNK if self._left else _State.TRAILERS
        return end + 2

    def _read_chunk_end(self, data: bytes, position: int) -> int:
        end = data[position : position + 2]
        if end == b"\r\n":
            self._state = _State.CHUNK_LINE
            return position + 2
        if end == b"\r":
            return -1
        raise UpstreamProtocol(detail="the upstream sent a chunk that is longer than its size")

    def _read_trailers(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self._state = _State.COMPLETE
            return position + 2
        end = data.find(b"\r\n\r\n", position)
        if (len(data) if end < 0 else end) - position > _TRAILERS_MAX_BYTES:
            raise UpstreamProtocol(detail="the upstream's trailers are too large")
        if end < 0:
            return -1
        self.trailers = Fields(_parse_lines(_split(data[position:end])))
        self._state = _State.COMPLETE
        return end + 4


def parse_answer_head(raw: bytes) -> AnswerHead:
    """The head in ``raw`` (without its empty line). Raises: UpstreamProtocol for anything that is ambiguous."""
    lines = _split(raw)
    status, minor = _status_of(lines[0])
    fields = _parse_lines(lines[1:])
    framing = [field for field in fields if field[0] in _FRAMING_FIELDS]
    length, is_chunked = _framing(framing, minor)
    keep_alive = minor == 1
    for name, value in framing:
        if name == "connection":
            options = value.lower()
            keep_alive = "close" not in options and (keep_alive or "keep-alive" in options)
    return AnswerHead(
        status=status,
        fields=Fields(fields),
        minor=minor,
        keep_alive=keep_alive,
        length=length,
        is_chunked=is_chunked,
    )


@lru_cache(maxsize=128)
def _status_of(line: str) -> tuple[int, int]:
    """Status and minor version of a status line. Raises: UpstreamProtocol."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocol(detail=f"the upstream's status line is malformed: {line[:80]!r}")
    return int(match[2]), int(match[1])


def _framing(fields: list[Field], minor: int) -> tuple[int | None, bool]:
    """Content-Length and whether the content is chunked. Raises: UpstreamProtocol."""
    if len(fields) == 1 and fields[0][0] == "content-length" and _DIGITS.fullmatch(fields[0][1]):
        return int(fields[0][1]), False  # nearly every answer
    lengths = {
        item.strip(" \t") for name, value in fields if name == "content-length" for item in value.split(",")
    }
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths:
            raise UpstreamProtocol(detail="the upstream sent Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != "chunked" or minor == 0:
            raise UpstreamProtocol(detail="the upstream sent an unknown Transfer-Encoding")
        return None, True
    if not lengths:
        return None, False
    text = lengths.pop()
    if lengths or not _DIGITS.fullmatch(text):
        raise UpstreamProtocol(detail="the upstream sent conflicting or malformed Content-Length")
    return int(text), False


def _split(raw: bytes) -> list[str]:
    """The lines of a head. Raises: UpstreamProtocol for control characters, bare CR and bare LF."""
    lines = raw.decode("latin-1").split("\r\n")
    if len(raw.translate(None, _FIELD_TEXT)) != 2 * (len(lines) - 1):
        raise UpstreamProtocol(detail="the upstream sent control characters in its head")
    return lines


def _parse_lines(lines: list[str]) -> list[Field]:
    try:
        pairs = [line.split(":", 1) for line in lines]
        return [(_field_name(name), value.strip(" \t")) for name, value in pairs]
    except ValueError as error:
        raise UpstreamProtocol(detail="the upstream sent a field without a colon") from error


@lru_cache(maxsize=1024)
def _field_name(text: str) -> str:
    """The name in lower case. Raises: UpstreamProtocol, also for folded lines and a space before the colon."""
    if not _TOKEN.fullmatch(text):
        raise UpstreamProtocol(detail=f"the upstream sent a malformed field name: {text[:80]!r}")
    return text.lower()
