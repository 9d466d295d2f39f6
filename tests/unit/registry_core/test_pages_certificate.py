"""Owns what must hold of the certificate on the administrator's page: what the gateway told, and no guess beyond it."""

from dataclasses import replace
from typing import Final

import pytest

from gateway.contract_certificate import CERTIFICATE_REPORT, CERTIFICATE_STALE_S, CertificateReport
from tests.support.core import Core, FakeClock
from tests.support.visitor import Visitor, add_person
from tests.unit.registry_core.conftest import OpenCore

DAY: Final = 86400
NOW: Final = FakeClock().at
WELL: Final = CertificateReport(
    mode="acme",
    at=NOW - 30,
    names=("registry.example.org", "www.registry.example.org"),
    issuer="R12",
    not_after=NOW + 61 * DAY + 60,
    next_renewal=NOW + 31 * DAY,
)


def tell(core: Core, report: CertificateReport | bytes) -> None:
    folder = core.registry.settings.data_dir / "run"
    folder.mkdir(exist_ok=True)
    text = report if isinstance(report, bytes) else report.to_json().encode()
    (folder / CERTIFICATE_REPORT).write_bytes(text)


def shown(core: Core, report: CertificateReport) -> Visitor:
    tell(core, report)
    return add_person(core, "root", admin=True)


def text_of(visitor: Visitor) -> str:
    return " ".join(visitor.get("/admin").text.split())


def test_a_certificate_that_is_well_is_shown_without_a_warning(core: Core) -> None:
    root = shown(core, WELL)
    text = text_of(root)
    assert "Names registry.example.org, www.registry.example.org" in text
    assert "Issuer R12" in text
    assert "Expires 2027-03-17 08:01 UTC , 61 days left" in text
    assert "Next renewal 2027-02-15" in text
    assert "Last error" not in text
    assert 'role="alert"' not in root.get("/admin").html


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"not_after": NOW + 21 * DAY - 1}, "expires in less than 21 days"),
        ({"not_after": NOW - 1}, "has expired"),
        ({"last_error": "The authority <b> is away.", "last_error_at": NOW - DAY}, "The last try"),
        ({"stands_in": True, "issuer": "registry.example.org"}, "A self-signed certificate stands in"),
    ],
)
def test_what_somebody_must_look_after_is_said_first(
    core: Core, change: dict[str, object], warning: str
) -> None:
    root = shown(core, replace(WELL, **change))  # type: ignore[arg-type]
    html = root.get("/admin").html
    alert = html.partition('role="alert">')[2].partition("</p>")[0]
    assert warning in alert
    assert 'href="#certificate"' in alert
    assert html.index(warning) < html.index('class="figures"')


def test_the_last_error_and_the_next_try_are_told(core: Core) -> None:
    report = replace(
        WELL, last_error="No <route> to it.", last_error_at=NOW - 7200, next_try=NOW + 600, next_renewal=0.0
    )
    text = text_of(shown(core, report))
    assert "Last error No <route> to it. ( 2 hours ago )" in text
    assert "Next try 2027-01-15 08:10 UTC" in text
    assert "as soon as an order succeeds" in text


def test_twenty_one_days_are_no_warning_yet(core: Core) -> None:
    assert "expires in less" not in text_of(shown(core, replace(WELL, not_after=NOW + 21 * DAY)))


def test_a_gateway_that_fell_silent_is_named(core: Core) -> None:
    root = shown(core, replace(WELL, at=NOW - CERTIFICATE_STALE_S))
    assert "is silent since then" not in text_of(root)
    core.clock.at += 1
    assert "is silent since then" in text_of(root)
    assert "registry.example.org" in text_of(root)


def test_files_are_renewed_by_who_put_them_there(core: Core) -> None:
    assert "Next renewal yours to do" in text_of(shown(core, replace(WELL, mode="files", next_renewal=0.0)))


@pytest.mark.parametrize(
    "told", [None, b"", b"{", b"[]", b"7", b'{"names": 1}', b'{"mode": "acme", "at": "x"}']
)
def test_without_a_report_nothing_is_guessed(core: Core, told: bytes | None) -> None:
    root = add_person(core, "root", admin=True)
    if told is not None:
        tell(core, told)
    page = root.get("/admin")
    assert page.status == 200
    assert "The gateway tells nothing about its certificate" in page.text


def test_tls_that_ends_elsewhere_is_said_so(new_core: OpenCore) -> None:
    core = new_core(tls_mode="off")
    root = add_person(core, "root", admin=True)
    assert "TLS ends elsewhere" in text_of(root)
    tell(core, CertificateReport(mode="off", at=NOW))
    assert "TLS ends elsewhere" in text_of(root)


def test_the_gateways_word_counts_more_than_the_cores_own_settings(core: Core) -> None:
    assert "TLS ends elsewhere" in text_of(shown(core, CertificateReport(mode="off", at=NOW)))
