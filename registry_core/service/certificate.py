"""Owns what an administrator is shown of the certificate: the gateway's own words, and whether they are a warning."""

from dataclasses import dataclass

from gateway.contract_certificate import (
    CERTIFICATE_REPORT,
    CERTIFICATE_STALE_S,
    CERTIFICATE_WARN_DAYS,
    CertificateReport,
    parse_certificate_report,
)
from registry_core.registry import Registry

_DAY_S = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """``report`` is None when the gateway told nothing. ``warning`` is "" when nobody needs to look after it."""

    report: CertificateReport | None
    is_elsewhere: bool = False
    is_stale: bool = False
    days_left: int = 0
    warning: str = ""


def view(registry: Registry) -> CertificateView:
    """The certificate as the gateway told last."""
    report = _told(registry)
    if report is None:
        return CertificateView(report=None, is_elsewhere=registry.settings.tls.mode == "off")
    if report.mode == "off":
        return CertificateView(report=report, is_elsewhere=True)
    left_s = report.not_after - registry.now
    return CertificateView(
        report=report,
        is_stale=registry.now - report.at > CERTIFICATE_STALE_S,
        days_left=int(left_s // _DAY_S),
        warning=_warning(report, left_s),
    )


def _told(registry: Registry) -> CertificateReport | None:
    # Of the same data folder, like the maintenance switch; a core elsewhere is told nothing.
    try:
        return parse_certificate_report(
            (registry.settings.data_dir / "run" / CERTIFICATE_REPORT).read_bytes()
        )
    except (OSError, ValueError):
        return None


def _warning(report: CertificateReport, left_s: float) -> str:
    if report.stands_in:
        return "A self-signed certificate stands in: visitors see the maintenance page until there is a real one."
    if left_s <= 0:
        return "The certificate has expired: browsers and clients refuse it."
    if left_s < CERTIFICATE_WARN_DAYS * _DAY_S:
        return f"The certificate expires in less than {CERTIFICATE_WARN_DAYS} days."
    if report.last_error:
        return "The last try to get a new certificate failed."
    return ""
