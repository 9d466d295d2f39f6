"""Owns what certificates open: the client's the paths that demand one, and our own the whole site.

The handshake asks everybody and demands nothing (``tls.client_ca``), so that uploads and pulls need no certificate.
"""

from dataclasses import replace
from typing import Final, Protocol

from gateway.errors import CertificateNeeded, NotFound
from gateway.http.exchange import ClientExchange
from gateway.http.route import ACME_PREFIX, OPERATIONS_PREFIX
from gateway.settings_routes import normal_path
from gateway.settings_tls import Tls

_HIDDEN: Final = OPERATIONS_PREFIX.rstrip("/")


# Whoever went on past the browser's warning shall not type a password here, nor a program send its token.
NOT_YET: Final = (
    "The certificate of this site is being ordered: the site opens by itself as soon as it is there."
)


class Shown(Protocol):
    """The certificate that a listener shows."""

    @property
    def stands_in(self) -> bool:
        """Whether it is a self-signed one, until there is one of the authority."""


class CertificateGate:
    """Lets requests through, or not. ``shown`` is None where a listener shows no certificate."""

    def __init__(self, tls: Tls, shown: Shown | None = None) -> None:
        self._shown = shown
        self._is_on = tls.client_ca is not None
        self._prefixes = tuple(normal_path(prefix).rstrip("/") for prefix in tls.client_certificate_paths)

    @property
    def is_waiting(self) -> bool:
        """Whether the site stays closed, because nobody could know whether it is us."""
        return self._shown is not None and self._shown.stands_in

    def admit(self, exchange: ClientExchange) -> None:
        """Note who proved a certificate: an administrator. Raises: CertificateNeeded, NotFound for ``/-/``."""
        if not self._is_on:
            return
        # What stands before a trusted proxy's certificate is the proxy, not its visitors.
        if not exchange.peer.trusts_forwarded and exchange.verified_client:
            exchange.peer = replace(exchange.peer, is_admin=True)
            return
        if exchange.head.path.startswith(ACME_PREFIX):
            return
        path = normal_path(exchange.head.path)
        for prefix in self._prefixes:
            if path == prefix or path.startswith(f"{prefix}/"):
                raise NotFound if path.startswith(_HIDDEN + "/") else CertificateNeeded
