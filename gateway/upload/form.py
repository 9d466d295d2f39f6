"""Owns multipart/form-data (RFC 7578, RFC 2046): bytes in, parts out, nothing copied, nothing guessed.

Sans-I/O. The caller owns the memory: it feeds blocks and gets slices of them back. Where parsers in the wild
disagree, docs/multipart.md says what is chosen here and why.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from gateway.errors import BadForm, BodyTooLarge
from gateway.http.head import Field
from gateway.upload.part_head import read_part_head

_CRLF: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_LF: Final = 0x0A
_DASH: Final = 0x2D
# With any other byte after it, a delimiter is none. LF is here to be refused, not to be accepted.
_LINE_BYTES: Final = b"\r-\n \t"
# Header blocks are copied out of the caller's block in pieces of this size; most fit into one.
_HEAD_PIECE: Final = 512
# White space that a mail gateway may have put after a delimiter (RFC 2046 transport-padding); clients send none.
_PADDING_MAX_BYTES: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """What one form may cost. Every limit is inclusive: exactly this much is accepted.

    fields: plain fields, and file inputs left empty; each is a few objects in memory (others allow 1000).
    files: files with a name or content.
    field_bytes: one plain field; fields are held in memory, files are not.
    header_bytes: the header block of one part (others accept 8 to 16 KiB; browsers send below 1 KiB).
    headers: header lines of one part; RFC 7578 knows three.
    total_bytes: the whole form, 0 = no limit.
    preamble_bytes, epilogue_bytes: text before the first and after the last delimiter, which means nothing;
        no client of today sends any, and skipping megabytes of it was a denial of service elsewhere.
    lookalikes: lines of data that begin like a delimiter but are none. A random boundary makes none at all,
        and each costs as much time as kilobytes of data.
    """

    fields: int = 100
    files: int = 100
    field_bytes: int = 64 * 1024
    header_bytes: int = 8 * 1024
    headers: int = 16
    total_bytes: int = 0
    preamble_bytes: int = 4 * 1024
    epilogue_bytes: int = 4 * 1024
    lookalikes: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBegin:
    """A part begins.

    name: the field's name. It and the file names may hold any character but NUL and other controls; CR and LF
        only where a browser escaped them.
    filename: base name of a file ("" if it has none), None for a plain field.
    filename_as_sent: the same with the path that some clients send; to show, never to open.
    content_type: the part's Content-Type as sent, None without one.
    headers: every header of the part, names in lower case.
    no_file_chosen: a file input that was left empty; its PartEnd follows at once.
    """

    name: str
    filename: str | None
    filename_as_sent: str | None
    content_type: str | None
    headers: tuple[Field, ...]
    no_file_chosen: bool = False

    @property
    def is_file(self) -> bool:
        """Whether this is a file that somebody chose to send."""
        return self.filename is not None and not self.no_file_chosen


@dataclass(frozen=True, slots=True)
class PartData:
    """Content of the part: a slice of the fed block, valid until the block is reused, or a few carried bytes."""

    data: memoryview | bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete; ``size`` is its bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class FormEnd:
    """The closing delimiter was seen. Whether the body may be believed is said by ``finish``."""


type FormEvent = PartBegin | PartData | PartEnd | FormEnd


class _State(Enum):
    PREAMBLE = auto()  # before the first delimiter
    DATA = auto()  # content of a part
    LINE = auto()  # a delimiter was matched; what follows tells which kind, or that it is none
    HEAD = auto()  # header block of a part
    CLOSED = auto()  # after the closing delimiter, on its line
    EPILOGUE = auto()  # on later lines
    BROKEN = auto()  # refused


class FormDecoder:
    """Decodes one form.

    The delimiter ``CRLF--boundary`` has its only CR at its start. So a block can end in at most one beginning of
    a delimiter, which is known by its length alone: nothing is copied, and nothing is searched twice.
    """

    __slots__ = (
        "_carried", "_delimiter", "_epilogue", "_fields", "_files", "_head", "_held", "_limits", "_lookalikes",
        "_part", "_preamble", "_size", "_state", "_tail", "_total",
    )  # fmt: skip

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self._delimiter: Final = b"\r\n--" + boundary
        self._limits: Final = limits
        self._state = _State.PREAMBLE
        # The first delimiter needs no CRLF before it: begin as if one had been seen.
        self._carried = len(_CRLF)  # bytes of the delimiter matched at the end of the last block
        self._preamble = -len(_CRLF)
        self._epilogue = 0
        self._tail = bytearray()  # what followed a delimiter, while it is undecided whether it is one
        self._head = bytearray()
        self._part: PartBegin | None = None
        self._held = False  # the part's begin was not told yet: content decides whether a file was chosen
        self._size = 0
        self._total = 0
        self._fields = 0
        self._files = 0
        self._lookalikes = 0

    def feed(self, buffer: bytearray | bytes, start: int, end: int) -> Iterator[FormEvent]:
        """The events of ``buffer[start:end]``; the iterator must be read to its end before the next call.

        Raises: BadForm, BodyTooLarge (a limit).
        """
        self._total += end - start
        if self._limits.total_bytes and self._total > self._limits.total_bytes:
            raise self._broken(BodyTooLarge(f"The form is larger than {self._limits.total_bytes} bytes."))
        pos = start
        while pos < end:
            match self._state:
                case _State.PREAMBLE | _State.DATA:
                    pos = yield from self._scan(buffer, pos, end)
                case _State.LINE:
                    pos = yield from self._read_line_end(buffer, pos, end)
                case _State.HEAD:
                    pos = yield from self._read_head(buffer, pos, end)
                case _State.CLOSED | _State.EPILOGUE:
                    pos = self._skip_epilogue(buffer, pos, end)
                case _State.BROKEN:
                    raise BadForm("This form was refused before.")

    def finish(self) -> None:
        """The body has ended. Raises: BadForm unless the form is whole."""
        if self._state is _State.EPILOGUE or (
            self._state is _State.CLOSED and not self._tail.endswith(b"\r")
        ):
            return
        if self._state is _State.PREAMBLE:
            raise self._broken(
                BadForm("The boundary that the Content-Type names does not occur in the form.")
            )
        raise self._broken(BadForm("The form ended before its closing delimiter: it is cut off."))

    def _broken[E: (BadForm, BodyTooLarge)](self, refusal: E) -> E:
        self._state = _State.BROKEN
        return refusal

    # Text: the content of a part, or the preamble

    def _scan(self, buffer: bytearray | bytes, pos: int, end: int) -> Generator[FormEvent, None, int]:
        """Text up to the next delimiter, which is all there is to do for the most of a large file."""
        if self._carried:
            wanted = self._delimiter[self._carried : self._carried + end - pos]
            if buffer.startswith(wanted, pos, end):
                self._carried += len(wanted)
                if self._carried == len(self._delimiter):
                    self._enter_line()
                return pos + len(wanted)
            carried, self._carried = self._carried, 0
            yield from self._text(self._delimiter[:carried])
        at = self._find_delimiter(buffer, pos, end)
        stop = at
        if at < 0:
            self._carried = self._partial(buffer, pos, end)
            stop = end - self._carried
        if stop > pos:
            yield from self._text(memoryview(buffer)[pos:stop])
        if at < 0:
            return end
        self._enter_line()
        return at + len(self._delimiter)

    def _find_delimiter(self, buffer: bytearray | bytes, pos: int, end: int) -> int:
        """Where the next delimiter is, passing over lookalikes that one byte gives away; -1 for none."""
        delimiter, length = self._delimiter, len(self._delimiter)
        at = buffer.find(delimiter, pos, end)
        while at >= 0:
            after = at + length
            if after == end or buffer[after] in _LINE_BYTES:
                return at
            self._count_lookalike()
            at = buffer.find(delimiter, after, end)
        return -1

    def _partial(self, buffer: bytearray | bytes, pos: int, end: int) -> int:
        """Length of the beginning of a delimiter that the block ends in."""
        at = buffer.rfind(b"\r", max(pos, end - len(self._delimiter) + 1), end)
        return end - at if at >= 0 and self._delimiter.startswith(buffer[at:end]) else 0

    def _text(self, data: memoryview | bytes) -> Iterator[FormEvent]:
        part = self._part
        if part is None:
            self._preamble += len(data)
            if self._preamble > self._limits.preamble_bytes:
                raise self._broken(
                    BadForm("The form does not begin with the boundary that its Content-Type names.")
                )
            return
        if self._held:
            yield self._begin(part)
        self._size += len(data)
        if part.filename is None and self._size > self._limits.field_bytes:
            raise self._broken(
                BodyTooLarge(f"The field '{part.name[:80]}' is larger than {self._limits.field_bytes} bytes.")
            )
        yield PartData(data)

    # Delimiter lines

    def _enter_line(self) -> None:
        self._carried = 0
        self._tail.clear()
        self._state = _State.LINE

    def _read_line_end(
        self, buffer: bytearray | bytes, pos: int, end: int
    ) -> Generator[FormEvent, None, int]:
        """What follows ``--boundary``: white space and CR LF, or ``--``; else the line is text."""
        tail = self._tail
        if not tail and buffer.startswith(_CRLF, pos, end):  # as good as always
            yield from self._end_part()
            self._enter_head()
            return pos + len(_CRLF)
        while pos < end:
            byte = buffer[pos]
            decisive = _LF if tail.endswith(b"\r") else _DASH if tail == b"-" else None
            if byte == decisive:
                yield from self._end_part()
                if byte == _DASH:
                    self._enter_epilogue()
                    yield FormEnd()
                else:
                    self._enter_head()
                return pos + 1
            if decisive is not None or byte not in _LINE_BYTES or (byte == _DASH and tail):
                yield from self._resume_text()
                return pos
            if byte == _LF:
                raise self._broken(BadForm("The form's lines must end in CR LF, not in LF alone."))
            self._grow_tail(byte)
            pos += 1
        return pos

    def _grow_tail(self, byte: int) -> None:
        self._tail.append(byte)
        if len(self._tail) > _PADDING_MAX_BYTES:
            raise self._broken(BadForm("A delimiter of the form is followed by too much white space."))

    def _resume_text(self) -> Iterator[FormEvent]:
        self._count_lookalike()
        self._state = _State.PREAMBLE if self._part is None else _State.DATA
        yield from self._text(self._delimiter + self._tail)

    def _count_lookalike(self) -> None:
        self._lookalikes += 1
        if self._lookalikes > self._limits.lookalikes:
            raise self._broken(
                BadForm("The form's boundary occurs all over its content; choose a random one.")
            )

    # Parts

    def _enter_head(self) -> None:
        self._state = _State.HEAD
        self._head[:] = _CRLF  # so that a part without headers ends as any other does

    def _read_head(self, buffer: bytearray | bytes, pos: int, end: int) -> Generator[FormEvent, None, int]:
        """Collect a header block; begin the part when it is whole."""
        head = self._head
        known = len(head)
        head += buffer[pos : min(end, pos + _HEAD_PIECE)]
        at = head.find(_HEAD_END, max(0, known - len(_HEAD_END) + 1))
        longest = at - len(_CRLF) if at >= 0 else len(head) - len(_CRLF) - len(_HEAD_END) + 1
        if longest > self._limits.header_bytes:
            raise self._broken(
                BadForm(f"A part's headers are longer than {self._limits.header_bytes} bytes.")
            )
        if at < 0:
            return pos + len(head) - known
        try:
            found = read_part_head(bytes(head[len(_CRLF) : at]), max_headers=self._limits.headers)
        except BadForm as refusal:
            raise self._broken(refusal) from None
        self._state = _State.DATA
        self._size = 0
        self._part = part = PartBegin(
            name=found.disposition.name,
            filename=found.disposition.filename,
            filename_as_sent=found.disposition.filename_as_sent,
            content_type=found.content_type,
            headers=found.headers,
        )
        self._held = part.filename_as_sent == ""
        if not self._held:
            yield self._begin(part)
        return pos + at + len(_HEAD_END) - known

    def _begin(self, part: PartBegin) -> PartBegin:
        self._held = False
        if part.is_file:
            self._files += 1
            if self._files > self._limits.files:
                raise self._broken(BodyTooLarge(f"The form has more than {self._limits.files} files."))
        else:
            self._fields += 1
            if self._fields > self._limits.fields:
                raise self._broken(BodyTooLarge(f"The form has more than {self._limits.fields} fields."))
        return part

    def _end_part(self) -> Iterator[FormEvent]:
        part = self._part
        if part is None:
            return
        if self._held:
            yield self._begin(replace(part, no_file_chosen=True))
        self._part = None
        yield PartEnd(self._size)

    # Epilogue

    def _enter_epilogue(self) -> None:
        self._state = _State.CLOSED
        self._tail.clear()

    def _skip_epilogue(self, buffer: bytearray | bytes, pos: int, end: int) -> int:
        while self._state is _State.CLOSED and pos < end:
            byte = buffer[pos]
            if byte == _LF:  # even without CR: nothing that follows has a meaning
                self._state = _State.EPILOGUE
            elif byte in b"\r \t" and not self._tail.endswith(b"\r"):
                self._grow_tail(byte)
            else:
                raise self._broken(BadForm("The form's closing delimiter is followed by other characters."))
            pos += 1
        self._epilogue += end - pos
        if self._epilogue > self._limits.epilogue_bytes:
            raise self._broken(BadForm("The form goes on long after its closing delimiter."))
        return end
