"""Owns the server's side of one TLS handshake: that a client which is refused is told why."""

import ssl
from typing import Final

# OpenSSL's reasons when the first bytes are not TLS but HTTP in clear.
_PLAIN_HTTP: Final = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})
_SENTENCE: Final = b"This port speaks HTTPS: write https:// in front of the address.\n"
_PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SENTENCE), _SENTENCE)
)


class ServerHandshake(ssl.SSLObject):
    """The TLS state of one connection.

    asyncio and uvloop abort the transport as soon as ``do_handshake`` raises, so that the alert which OpenSSL
    has just put out is never sent and clients report a riddle. Here a failure first asks for more input, which
    makes the loop send what is waiting; the failure itself is raised on the next turn, or the peer hangs up.
    """

    _outgoing: ssl.MemoryBIO | None = None
    _failure: ssl.SSLError | None = None

    def attach(self, outgoing: ssl.MemoryBIO) -> None:
        """Tell where the bytes for the peer wait."""
        self._outgoing = outgoing

    def do_handshake(self) -> None:
        """Go on with the handshake as far as the input allows."""
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as exc:
            if self._outgoing is None:
                raise
            if exc.reason in _PLAIN_HTTP:
                self._outgoing.write(_PLAIN_ANSWER)
            if not self._outgoing.pending:
                raise
            self._failure = exc
            raise ssl.SSLWantReadError from exc
