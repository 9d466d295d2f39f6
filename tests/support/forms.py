"""Owns forms in tests: bodies made, bodies read, and the same body cut in every way."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from gateway.upload.form import FormDecoder, FormEnd, FormEvent, FormLimits, PartBegin, PartData, PartEnd

LIMITS = FormLimits()


@dataclass(frozen=True, slots=True)
class ReadPart:
    """One part as a reader got it."""

    begin: PartBegin
    data: bytes

    @property
    def name(self) -> str:
        return self.begin.name

    @property
    def filename(self) -> str | None:
        return self.begin.filename


def blocks_of(body: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The body cut at these offsets."""
    for start, stop in pairwise([0, *sorted(cuts), len(body)]):
        yield body[start:stop]


def read_events(blocks: Iterable[bytes], boundary: bytes, limits: FormLimits = LIMITS) -> Iterator[FormEvent]:
    """Feed blocks as the gateway does: one buffer that is reused, the block somewhere inside of it."""
    decoder = FormDecoder(boundary, limits)
    buffer = bytearray(b"\xaa" * 3)
    for block in blocks:
        if len(block) + 6 > len(buffer):
            buffer = bytearray(len(block) + 6)
        buffer[3 : 3 + len(block)] = block
        buffer[3 + len(block) : 6 + len(block)] = b"\r\n-"  # what lies behind the block must not be read
        for event in decoder.feed(buffer, 3, 3 + len(block)):
            yield PartData(bytes(event.data)) if isinstance(event, PartData) else event
    decoder.finish()


def read_form(
    body: bytes, boundary: bytes = b"b", *, cuts: Iterable[int] = (), limits: FormLimits = LIMITS
) -> list[ReadPart]:
    """The parts of a form, with the promises about the order of events checked on the way."""
    parts: list[ReadPart] = []
    open_part: PartBegin | None = None
    data = b""
    ended = False
    for event in read_events(blocks_of(body, cuts), boundary, limits):
        assert not ended
        match event:
            case PartBegin():
                assert open_part is None
                open_part, data = event, b""
            case PartData(piece):
                assert open_part is not None
                assert len(piece) > 0
                data += piece
            case PartEnd(size):
                assert open_part is not None
                assert size == len(data)
                parts.append(ReadPart(open_part, data))
                open_part = None
            case FormEnd():
                assert open_part is None
                ended = True
    assert ended
    return parts


def part(head: str, data: bytes = b"") -> bytes:
    """One part, from its Content-Disposition parameters (and further header lines) and its data."""
    return b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form with the boundary ``b``."""
    return b"".join(parts) + b"--b--\r\n"
