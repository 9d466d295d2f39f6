"""Owns what a client certificate opens (``tls.client_ca``): the paths that demand one, and the operations pages.

The handshake asks everybody and demands nothing, so that uploads and pulls need no certificate.
"""

from dataclasses import replace
from typing import Final

from gateway.errors import CertificateNeeded, NotFound
from gateway.http.exchange import ClientExchange
from gateway.http.route import ACME_PREFIX, OPERATIONS_PREFIX
from gateway.settings import Tls
from gateway.settings_routes import normal_path

_HIDDEN: Final = OPERATIONS_PREFIX.rstrip("/")


class CertificateGate:
    """Lets requests through, or not."""

    def __init__(self, tls: Tls) -> None:
        self._is_on = tls.client_ca is not None
        self._prefixes = tuple(normal_path(prefix).rstrip("/") for prefix in tls.client_certificate_paths)

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
