"""Owns the server's side of one TLS handshake: a refused client is told why, a validator is answered."""

import email.utils
import logging
import secrets
import ssl
from collections.abc import Callable
from typing import Final, cast

from gateway.errors import MalformedRequest
from gateway.http.reply import REASONS, error_reply
from gateway.net.client_hello import read_client_hello

log = logging.getLogger("gateway.net")

ACME_PROTOCOL: Final = "acme-tls/1"  # RFC 8737

# OpenSSL's reasons when the first bytes are not TLS but HTTP in clear.
_PLAIN_HTTP: Final = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})
_SENTENCE: Final = "This port speaks HTTPS: write https:// in front of the address."

type ChallengeContext = Callable[[str], ssl.SSLContext | None]


class ServerHandshake(ssl.SSLObject):
    """The TLS state of one connection.

    asyncio and uvloop abort the transport as soon as ``do_handshake`` raises, so that the alert which OpenSSL
    has just put out is never sent and clients report a riddle. Here a failure first asks for more input, which
    makes the loop send what is waiting; the failure itself is raised on the next turn, or the peer hangs up.

    While a TLS-ALPN-01 challenge is open, the ClientHello is looked at before OpenSSL gets it: only a validator,
    who offers ``acme-tls/1``, gets the challenge's certificate. ``ssl`` has no callback that could tell.
    """

    _incoming: ssl.MemoryBIO | None = None
    _outgoing: ssl.MemoryBIO | None = None
    _failure: ssl.SSLError | None = None
    _challenge: ChallengeContext | None = None

    def attach(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, challenge: ChallengeContext | None
    ) -> None:
        """Tell where bytes come from and go to. ``challenge`` gives the context for a name under validation."""
        self._incoming, self._outgoing, self._challenge = incoming, outgoing, challenge

    def do_handshake(self) -> None:
        """Go on with the handshake as far as the input allows."""
        if self._failure is not None:
            raise self._failure
        if self._challenge is not None:
            self._look_for_validator(self._challenge)
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as exc:
            if self._outgoing is None:
                raise
            if exc.reason in _PLAIN_HTTP:
                rest = self._incoming.read() if self._incoming is not None else b""
                self._outgoing.write(_plain_answer(rest))
            if not self._outgoing.pending:
                raise
            self._failure = exc
            raise ssl.SSLWantReadError from exc

    def _peek(self) -> bytes:
        if self._incoming is None:
            return b""
        seen = self._incoming.read()
        self._incoming.write(seen)
        return seen

    def _look_for_validator(self, challenge: ChallengeContext) -> None:
        hello = read_client_hello(self._peek())
        if hello is None:
            raise ssl.SSLWantReadError
        self._challenge = None
        if ACME_PROTOCOL in hello.protocols:
            context = challenge(hello.server_name)
            if context is not None:
                self.context = context


def _plain_answer(request: bytes) -> bytes:
    """To HTTP in clear, of which ``request`` is what OpenSSL has not read: the end of the head, or a part of it."""
    request_id = secrets.token_hex(8)
    reply = error_reply(
        MalformedRequest(_SENTENCE), request_id=request_id, as_html=b"text/html" in request.lower()
    )
    log.info("%s: http:// on the TLS port", request_id)
    lines = [
        f"HTTP/1.1 {reply.status} {REASONS[reply.status]}",
        *(f"{name}: {value}" for name, value in reply.fields),
        f"date: {email.utils.formatdate(usegmt=True)}",
        f"x-request-id: {request_id}",
        f"content-length: {len(reply.body)}",
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + reply.body


def verified_client(tls: ssl.SSLObject | None) -> str:
    """Whose certificate the client proved, by its common name, else its whole subject; "" = it proved none."""
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return ""
    # The annotations of getpeercert() cannot tell the subject from the dates beside it.
    groups = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    subject = [pair for group in groups for pair in group]
    names = [value for key, value in subject if key == "commonName"]
    return names[0] if names else ", ".join(f"{key}={value}" for key, value in subject) or "unnamed"
