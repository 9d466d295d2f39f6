"""Owns the chunked transfer coding (RFC 9112 section 7.1): bytes in, ranges of content out, nothing lenient."""

import re
from collections.abc import Iterator
from typing import Final

from gateway.errors import MalformedRequest
from gateway.http.head import Field

# Sixteen hexadecimal digits are 2^64; a longer size is an attack, not an upload.
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r\n")
MAX_SIZE_LINE_BYTES: Final = (
    1024  # extensions are legal and nobody uses them (CVE-2023-39326: they must be bounded)
)
MAX_TRAILER_BYTES: Final = 8192


class ChunkedDecoder:
    """Feed it what the socket gave; it tells which ranges of that are content.

    ``is_complete`` is true after the last chunk and the trailers; bytes behind that belong to the next request.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.trailers: tuple[Field, ...] = ()
        self.consumed = 0
        self._left = 0  # content bytes of the chunk still to come
        self._line = bytearray()  # the size line, chunk end or trailer line that is being read
        self._expect_end_of_chunk = False
        self._in_trailers = False
        self._trailer_bytes = 0

    def feed(self, buffer: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ``(from, to)`` of content within ``buffer[start:end]``; ``consumed`` tells how far it came.

        Raises: MalformedRequest.
        """
        position = start
        while position < end and not self.is_complete:
            if self._left:
                stop = min(end, position + self._left)
                self._left -= stop - position
                self._expect_end_of_chunk = not self._left
                self.consumed = stop
                yield position, stop
                position = stop
                continue
            newline = buffer.find(b"\n", position, end)
            stop = newline + 1 if newline >= 0 else end
            self._line += buffer[position:stop]
            position = stop
            if len(self._line) > MAX_SIZE_LINE_BYTES and not self._in_trailers:
                raise MalformedRequest("A chunk's size line is too long.")
            if len(self._line) + self._trailer_bytes > MAX_TRAILER_BYTES:
                raise MalformedRequest("The trailers are too large.")
            if newline >= 0:
                self._take_line()
        self.consumed = position

    def _take_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._expect_end_of_chunk:
            if line != b"\r\n":
                raise MalformedRequest("A chunk is longer than its size.")
            self._expect_end_of_chunk = False
        elif self._in_trailers:
            self._take_trailer(line)
        else:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise MalformedRequest("A chunk's size is not a hexadecimal number.")
            self._left = int(match[1], 16)
            self._in_trailers = not self._left

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_complete = True
            return
        match = _TRAILER_LINE.fullmatch(line)
        if match is None:
            raise MalformedRequest("A trailer field is malformed.")
        self._trailer_bytes += len(line)
        self.trailers += ((match[1].decode().lower(), match[2].decode("latin-1").strip(" \t")),)
