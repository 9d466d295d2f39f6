"""Owns what is told about the certificate: its files for ``gateway cert status``, the one in use for the pages."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Final

from gateway.acme.live import renewal_time, usable_pair
from gateway.acme.plan import plan_of
from gateway.acme.state import AcmeState
from gateway.contract_certificate import CERTIFICATE_WARN_DAYS, CertificateReport
from gateway.errors import SettingsError
from gateway.net.certificate import CertificateFacts, CertificateRefused, inspect_certificate, issuer_of
from gateway.net.dev_ca import RENEW_BEFORE
from gateway.net.tls import CertificateSource, origin_of
from gateway.settings import Settings

_INCOMPLETE: Final = (
    "INCOMPLETE: append the issuer's certificates; or is its root private, and not known to this system?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """``facts`` is None when there is no certificate; ``trouble`` then says why. Times are UTC."""

    mode: str
    file: str = ""
    facts: CertificateFacts | None = None
    trouble: str = ""
    next_renewal: datetime | None = None
    next_try: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None

    @property
    def is_well(self) -> bool:
        """Whether nobody needs to look after it."""
        if self.mode == "off":
            return True
        facts = self.facts
        return (
            facts is not None and facts.days_left > 0 and facts.key_matches is not False and not self.trouble
        )

    def to_dict(self) -> dict[str, object]:
        """As plain values for JSON; times are ISO 8601."""
        plain = asdict(self)
        facts = plain.pop("facts") or {}
        both = {**plain, **facts, "ok": self.is_well}
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in both.items()}

    def lines(self) -> list[str]:
        """For people."""
        if self.mode == "off":
            return ["TLS is off: there is no certificate."]
        told = [("mode", self.mode), ("file", self.file)]
        if self.facts is not None:
            told += _fact_lines(self.facts)
        if self.trouble:
            told.append(("trouble", self.trouble))
        if self.next_renewal is not None:
            told.append(("next renewal", _minute(self.next_renewal)))
        if self.last_error:
            when = f" ({_minute(self.last_error_at)})" if self.last_error_at else ""
            told.append(("last error", self.last_error + when))
        if self.next_try is not None:
            told.append(("next try", _minute(self.next_try)))
        return [f"{name + ':':<14}{value}" for name, value in told]


def certificate_status(settings: Settings, *, now: datetime | None = None) -> CertificateStatus:
    """The state of the certificate that the settings name, as its files are now."""
    moment = now or datetime.now(UTC)
    mode = settings.tls.mode
    if mode == "off":
        return CertificateStatus(mode=mode)
    origin = origin_of(settings)
    path, key = origin.files[0], origin.files[0] if mode == "acme" else origin.files[1]
    facts, trouble = None, ""
    try:
        facts = inspect_certificate(
            path, key, roots=origin.roots if origin.roots and origin.roots.exists() else None, now=moment
        )
    except CertificateRefused as exc:
        trouble = exc.sentence if path.exists() else f"{path} does not exist yet."
    if mode == "acme":
        return _acme_status(settings, str(path), facts, trouble, moment)
    renewal = facts.not_after - RENEW_BEFORE if facts is not None and mode == "dev" else None
    return CertificateStatus(mode=mode, file=str(path), facts=facts, trouble=trouble, next_renewal=renewal)


def _acme_status(
    settings: Settings, path: str, facts: CertificateFacts | None, trouble: str, now: datetime
) -> CertificateStatus:
    try:
        plan = plan_of(settings)
    except SettingsError as exc:
        return CertificateStatus(mode="acme", file=path, facts=facts, trouble=str(exc))
    state = AcmeState.load(plan.folder)
    pair = usable_pair(plan, now)
    if facts is not None and pair is None:
        trouble = f"it does not serve {', '.join(plan.names)} now; another is ordered"
    return CertificateStatus(
        mode="acme",
        file=path,
        facts=facts,
        trouble=trouble,
        next_renewal=renewal_time(state, pair),
        next_try=state.retry_at if state.retry_at and state.retry_at > now else None,
        last_error=state.last_error,
        last_error_at=state.last_error_at,
    )


def report_of(
    settings: Settings, source: CertificateSource, *, now: datetime | None = None
) -> CertificateReport:
    """What the pages are told: of the certificate in use, which is not that of the files while those are refused."""
    moment = now or datetime.now(UTC)
    leaf, mode = source.pair.leaf, settings.tls.mode
    said = CertificateReport(
        mode=mode,
        names=source.pair.names,
        issuer=issuer_of(leaf),
        not_after=leaf.not_valid_after_utc.timestamp(),
        stands_in=source.stands_in,
        last_error=source.last_error,
    )
    if mode == "dev":
        return replace(said, next_renewal=_epoch(leaf.not_valid_after_utc - RENEW_BEFORE))
    if mode != "acme":
        return said
    plan = plan_of(settings)
    state = AcmeState.load(plan.folder)
    return replace(
        said,
        next_renewal=_epoch(renewal_time(state, usable_pair(plan, moment))),
        next_try=_epoch(state.retry_at if state.retry_at and state.retry_at > moment else None),
        last_error=state.last_error or source.last_error,
        last_error_at=_epoch(state.last_error_at) if state.last_error else 0.0,
    )


def _epoch(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _fact_lines(facts: CertificateFacts) -> list[tuple[str, str]]:
    soon = f"  (less than {CERTIFICATE_WARN_DAYS} days)" if facts.days_left < CERTIFICATE_WARN_DAYS else ""
    matches = {True: "yes", False: "NO", None: "not looked at"}[facts.key_matches]
    return [
        ("names", ", ".join(facts.names)),
        ("issuer", f"{facts.issuer}{' (self-signed)' if facts.self_signed else ''}"),
        ("key", f"{facts.key_type}, belongs to the certificate: {matches}"),
        ("valid", f"{_minute(facts.not_before)} to {_minute(facts.not_after)}"),
        ("days left", f"{facts.days_left:.1f}{soon}"),
        ("chain", "complete" if facts.chain_complete else _INCOMPLETE),
    ]


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
