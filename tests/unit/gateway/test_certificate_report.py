"""Owns what must hold of the gateway's word about its certificate: told at once, told again, whole or not at all."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from gateway.certificate_report import CertificateReporter
from gateway.contract_certificate import (
    CERTIFICATE_TOLD_EVERY_S,
    CertificateReport,
    parse_certificate_report,
)

REPORT: Final = CertificateReport(
    mode="acme",
    names=("a.example", "b.example"),
    issuer="R12",
    not_after=1_800_000_000.0,
    stands_in=True,
    next_renewal=1.0,
    next_try=2.0,
    last_error="Die Behörde schweigt.",
    last_error_at=3.0,
)


class Teller:
    """A reporter whose clock and certificate are ours."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run" / "certificate.json"
        self.now, self.report = 1_790_000_000.0, REPORT
        self._reporter = CertificateReporter(self.path, lambda: self.report, clock=lambda: self.now)

    def told(self) -> CertificateReport:
        self._reporter.look()
        return parse_certificate_report(self.path.read_bytes())


def test_a_change_is_told_at_once_and_nothing_else_lies_beside_it(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    assert teller.told() == replace(REPORT, at=teller.now)
    teller.now += 1
    teller.report = replace(REPORT, stands_in=False, last_error="")
    assert teller.told() == replace(teller.report, at=teller.now)
    assert [path.name for path in teller.path.parent.iterdir()] == ["certificate.json"]


def test_the_same_is_told_again_now_and_then(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    began = teller.told().at
    teller.now += CERTIFICATE_TOLD_EVERY_S - 1
    assert teller.told().at == began
    teller.now += 1
    assert teller.told().at == teller.now


def test_a_clock_that_was_set_back_silences_nobody(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    teller.told()
    teller.now -= 86400
    assert teller.told().at == teller.now


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert parse_certificate_report(b'{"mode": "files", "moon": "full"}') == CertificateReport(mode="files")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'["mode"]',
        b"{}",
        b'{"mode": "acme", "not_after": 1e999}',
        b'{"mode":"a","names":7}',
    ],
)
def test_what_is_no_report_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="no report"):
        parse_certificate_report(text)
