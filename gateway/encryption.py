"""Owns that what TLS needs is loaded only where TLS is on: its libraries are most of a small process."""

from typing import Any

from gateway.settings import Settings


def open_tls(settings: Settings) -> Any:
    """The source of the certificate, or None."""
    if settings.tls.mode == "off" or not settings.server.https:
        return None
    from gateway.net.tls import open_source  # noqa: PLC0415 - loads cryptography

    return open_source(settings)


def open_keeper(settings: Settings, source: Any) -> Any:
    """What orders certificates, or None."""
    if source is None or settings.tls.mode != "acme":
        return None
    from gateway.acme.keeper import open_keeper as open_it  # noqa: PLC0415 - only where certificates are ordered

    return open_it(settings, source)
