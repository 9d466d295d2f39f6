"""Owns an answer of S3 whose body is still on the wire: read in pieces, counted, ended once."""

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_GIVEN_UP: Final = "cut"  # as trace says of every answer that was not taken to its end


@dataclass(slots=True)
class Streamed:
    """``keep`` takes the connection back; ``ended`` hears how many bytes came, and what cut them off, "" = nothing."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse
    keep: Callable[[http.client.HTTPConnection], None]
    ended: Callable[[int, str], None] | None = None
    _received: int = 0
    _error: str = ""

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """The next bytes; 0 = no more come. Raises: OSError, HTTPException."""
        try:
            count = self.response.readinto(buffer)
        except (OSError, http.client.HTTPException) as exc:
            self._error = type(exc).__name__
            raise
        if not count and len(buffer) and self.response.length:
            self._error = "IncompleteRead"  # a connection that S3 closed in the middle is no exception here
        self._received += count
        return count

    def end(self, *, whole: bool) -> None:
        """Keep the connection if the body was read to its end, close it if not."""
        self.response.close()
        if whole and not self.response.will_close:
            self.keep(self.connection)
        else:
            self.connection.close()
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self._received, "" if whole else self._error or _GIVEN_UP)
