"""Owns that what TLS needs is loaded only where TLS is on: its libraries are most of a small process."""

from collections.abc import Callable, Coroutine
from typing import Any

from gateway.certificate_report import CertificateReporter
from gateway.contract_certificate import CERTIFICATE_REPORT, CertificateReport
from gateway.settings import Settings


def open_tls(settings: Settings) -> Any:
    """The source of the certificate, or None."""
    if settings.tls.mode == "off" or not settings.server.https:
        return None
    from gateway.net.tls import open_source  # noqa: PLC0415 - loads cryptography

    return open_source(settings)


def renew_tls(settings: Settings, source: Any) -> str:
    """Take up the certificate that is there now, where the settings say now. Why not, or ""."""
    if source is None:
        return ""
    from gateway.net.tls import origin_of  # noqa: PLC0415 - see above

    source.follow(origin_of(settings))
    return str(source.reload())


def open_keeper(settings: Settings, source: Any) -> Any:
    """What orders certificates, or None."""
    if source is None or settings.tls.mode != "acme":
        return None
    from gateway.acme.keeper import open_keeper as open_it  # noqa: PLC0415 - only where certificates are ordered

    return open_it(settings, source)


def certificate_jobs(
    settings: Callable[[], Settings], source: Any, keeper: Any
) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """What goes on beside the requests for the certificate's sake. ``settings``: those in force."""
    path = settings().data_dir / "run" / CERTIFICATE_REPORT
    jobs = {"certificate report": CertificateReporter(path, _reading(settings, source)).run}
    if source is not None:
        jobs["certificate"] = source.watch
    if keeper is not None:
        jobs["acme"] = keeper.run
    return jobs


def _reading(settings: Callable[[], Settings], source: Any) -> Callable[[], CertificateReport]:
    if source is None:
        return lambda: CertificateReport(mode="off")
    from gateway.acme.status import report_of  # noqa: PLC0415 - loads cryptography

    return lambda: report_of(settings(), source)
