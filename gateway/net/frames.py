"""Owns where one HTTP/2 frame ends and the next begins. Content is shown where it lies, every other frame whole.

``h2`` could do this, too, but it copies what is left over once for each frame: many small frames would cost the
square of their number, and content 35 µs for each 16 KiB where splitting it here costs 3 (docs/http2.md).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PREFACE_BYTES: Final = 24
HEADER_BYTES: Final = 9
_HEADER: Final = struct.Struct(">HBBBL")
_STREAM_ID: Final = 0x7FFFFFFF

PREFACE: Final = -1  # what a client begins with is no frame, but is handed on like one
DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8


class FrameTooLong(Exception):
    """A frame is longer than we said that frames may be (RFC 9113 section 4.2)."""


class BadPadding(Exception):
    """A frame of content is padded with more than it has (RFC 9113 section 6.1)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame that is not plain content; ``raw`` with its header."""

    kind: int
    flags: int
    stream_id: int
    raw: bytes


@dataclass(slots=True)
class Content:
    """Content of a stream: ``data[start:end]`` of what was fed. ``is_last``: the stream ends behind it.

    With ``each`` it is a run of frames of so many bytes, with only their headers between them.
    """

    stream_id: int
    start: int
    end: int
    is_last: bool
    each: int = 0

    @property
    def starts(self) -> range:
        """Where the content of each frame begins."""
        return range(
            self.start, self.end, self.each + HEADER_BYTES if self.each else self.end - self.start or 1
        )


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame, as it goes over the wire."""
    return frame_head(kind, flags, stream_id, len(payload)) + payload


def frame_head(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    """The first bytes of a frame with a payload of that length."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def unpadded(padded: Frame) -> memoryview:
    """The content of a padded DATA frame. Raises: BadPadding."""
    payload = memoryview(padded.raw)[HEADER_BYTES:]
    if not payload or payload[0] >= len(payload):
        raise BadPadding
    return payload[1 : len(payload) - payload[0]]


class FrameScanner:
    """Splits what arrives on one connection."""

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._raw = bytearray()  # of the frame or header that has not wholly arrived
        self._wanted = PREFACE_BYTES  # so many bytes make it whole
        self._is_header = False
        self._kind, self._flags, self._stream_id = PREFACE, 0, 0
        self._content_left = 0

    @property
    def has_begun(self) -> bool:
        """Whether the preface is over."""
        return self._kind != PREFACE or self._is_header

    @property
    def is_within_head(self) -> bool:
        """Whether a frame with header fields has arrived in part."""
        return not self._is_header and self._kind in {HEADERS, CONTINUATION}

    def feed(self, data: memoryview) -> Iterator[Frame | Content]:
        """What ``data`` completes, in order. Raises: FrameTooLong."""
        at, size = 0, len(data)
        while at < size:
            if self._content_left:
                end = min(size, at + self._content_left)
                self._content_left -= end - at
                is_last = not self._content_left and bool(self._flags & END_STREAM)
                yield Content(self._stream_id, at, end, is_last)
                at = end
                continue
            if self._is_header and not self._raw and size - at >= HEADER_BYTES:
                at += HEADER_BYTES
                found = self._begin(data, at)
                if found is None and self._content_left and (end := self._run(data, at)):
                    yield Content(self._stream_id, at, end, False, self._content_left)
                    self._content_left = 0
                    at = end
                    continue
            else:
                taken = data[at : at + self._wanted - len(self._raw)]
                self._raw += taken
                at += len(taken)
                if len(self._raw) < self._wanted:
                    return
                found = (
                    self._begin(memoryview(bytes(self._raw)), HEADER_BYTES)
                    if self._is_header
                    else self._end()
                )
            if found is not None:
                yield found

    def _begin(self, data: memoryview, at: int) -> Frame | Content | None:
        """A header ends at ``at``."""
        high, low, self._kind, self._flags, stream_id = _HEADER.unpack_from(data, at - HEADER_BYTES)
        length = high << 8 | low
        if length > self._most_bytes:
            raise FrameTooLong
        self._stream_id = stream_id & _STREAM_ID
        if self._kind == DATA and self._stream_id and not self._flags & PADDED:
            self._raw.clear()
            self._content_left = length
            return None if length else Content(self._stream_id, at, at, bool(self._flags & END_STREAM))
        self._raw[:] = data[at - HEADER_BYTES : at]
        self._wanted = HEADER_BYTES + length
        self._is_header = False
        return None if length else self._end()

    def _run(self, data: memoryview, at: int) -> int:
        """Where the last of the whole frames ends that begin at ``at`` and are all alike; 0 = no such run.

        Uploads are made of almost nothing else, and to look at each by itself is most of what they cost here.
        """
        step = self._content_left + HEADER_BYTES
        end, size = at + self._content_left, len(data)
        if self._flags or end + step > size:
            return 0
        header = data[at - HEADER_BYTES : at]
        while end + step <= size and data[end : end + HEADER_BYTES] == header:
            end += step
        return end

    def _end(self) -> Frame:
        """A whole frame, or the preface, is here."""
        frame = Frame(self._kind, self._flags, self._stream_id, bytes(self._raw))
        self._raw.clear()
        self._wanted, self._is_header = HEADER_BYTES, True
        return frame
