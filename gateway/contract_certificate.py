"""Owns what the gateway tells the core of its certificate, for the administrator's page: one small file. Pure."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.contract import parse_moment

CERTIFICATE_REPORT: Final = "certificate.json"  # below DATA_DIR/run
CERTIFICATE_WARN_DAYS: Final = 21
CERTIFICATE_TOLD_EVERY_S: Final = 60
CERTIFICATE_STALE_S: Final = 10 * CERTIFICATE_TOLD_EVERY_S  # nobody who still serves is silent for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateReport:
    """What the gateway tells the pages about the certificate that it shows. Times in epoch seconds, 0 = none.

    mode: as ``tls.mode``; ``off`` also when there is no TLS listener, and then the rest means nothing.
    at: when it was told. stands_in: self-signed, until there is one of the authority.
    """

    mode: str
    at: float = 0.0
    names: tuple[str, ...] = ()
    issuer: str = ""
    not_after: float = 0.0
    stands_in: bool = False
    next_renewal: float = 0.0
    next_try: float = 0.0
    last_error: str = ""
    last_error_at: float = 0.0

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))


def parse_certificate_report(data: bytes) -> CertificateReport:
    """The report that ``to_json`` wrote; what a later version adds is passed over. Raises: ValueError."""
    known = CertificateReport(mode="")
    try:
        told: dict[str, Any] = json.loads(data)
        read = {
            name: _READERS[type(getattr(known, name))](told[name]) for name in asdict(known) if name in told
        }
        return CertificateReport(**{"mode": told["mode"], **read})
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError("no report about a certificate") from exc


_READERS: Final[dict[type, Callable[[Any], Any]]] = {
    str: str,
    bool: lambda value: value is True,
    float: parse_moment,
    tuple: lambda value: tuple(str(name) for name in value),
}
