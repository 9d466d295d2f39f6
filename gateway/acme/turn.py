"""Owns one turn of certificate care: look what is due, do it, install what came of it, remember how it went."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from gateway.acme import schedule
from gateway.acme.hook import run_hook
from gateway.acme.live import due_step, install, own_renewal_time, renewal_time, usable_pair
from gateway.acme.order import Issued, OrderFailed, ask_advice, obtain
from gateway.acme.plan import AcmePlan
from gateway.acme.schedule import Step
from gateway.acme.state import AcmeState
from gateway.net.certificate import CertificateRefused, Pair, chain_pem, make_pair
from gateway.net.files import locked, make_folder
from gateway.net.tls import name_is_covered

ADVICE_RETRY: Final = timedelta(hours=6)  # RFC 9773 4.3.3

type Outcome = Literal["issued", "failed", "waiting", "advised", "busy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How a turn went. ``sentence`` is for people."""

    outcome: Outcome
    sentence: str
    hook_failed: bool = False

    def to_dict(self) -> dict[str, object]:
        """The turn as plain values."""
        return asdict(self)


def take_turn(plan: AcmePlan, *, force: bool = False, now: Callable[[], datetime] | None = None) -> Turn:
    """Do what is due for the plan's certificate; with ``force`` order in any case. One process at a time does.

    Raises: OSError when the folder cannot be written.
    """
    clock = now or _utc_now
    make_folder(plan.folder)
    with locked(plan.folder, wait=False) as got:
        if not got:
            return Turn(outcome="busy", sentence="Another process is ordering a certificate right now.")
        state = AcmeState.load(plan.folder)
        pair = usable_pair(plan, clock())
        step = Step.ORDER if force else due_step(plan, state, pair, clock())
        match step:
            case Step.WAIT:
                return Turn(outcome="waiting", sentence=_why_waiting(plan, state, pair, clock()))
            case Step.ASK_ADVICE:
                return _take_advice(plan, state, pair, clock)
            case Step.ORDER:
                return _order(plan, state, clock)


def _order(plan: AcmePlan, state: AcmeState, clock: Callable[[], datetime]) -> Turn:
    state = schedule.begun(state, plan.id, clock())
    state.save(plan.folder)
    try:
        pair = _checked(plan, obtain(plan, now=clock), clock())
    except OrderFailed as exc:
        state = schedule.failed(
            state, exc.sentence, clock(), not_before=exc.retry_at, unreached=exc.unreached
        )
        state.save(plan.folder)
        return Turn(
            outcome="failed", sentence=f"{exc.sentence} Next try at {state.retry_at:%Y-%m-%d %H:%M} UTC."
        )
    install(plan, pair, state, clock())
    trouble = run_hook(
        plan.deploy_hook,
        {"CERTIFICATE_FILE": str(plan.live.absolute()), "CERTIFICATE_NAMES": " ".join(pair.names)},
    )
    sentence = f"New certificate for {', '.join(pair.names)} until {pair.leaf.not_valid_after_utc:%Y-%m-%d}."
    return Turn(outcome="issued", sentence=f"{sentence} {trouble}".strip(), hook_failed=bool(trouble))


def _checked(plan: AcmePlan, issued: Issued, now: datetime) -> Pair:
    try:
        pair = make_pair(issued.chain_pem, issued.key_pem, certificate="the issued certificate", now=now)
    except CertificateRefused as exc:
        raise OrderFailed(f"What the authority issued cannot be used: {exc.sentence}") from exc
    missing = [name for name in plan.names if not name_is_covered(name, pair.names)]
    if missing:
        raise OrderFailed(f"What the authority issued does not cover {', '.join(missing)}.")
    return pair


def _take_advice(plan: AcmePlan, state: AcmeState, pair: Pair | None, clock: Callable[[], datetime]) -> Turn:
    if pair is None:
        raise AssertionError("advice is asked for a usable certificate only")
    try:
        advice = ask_advice(plan, chain_pem(pair.chain[:1]), now=clock)
    except OrderFailed as exc:
        replace(state, advice_due_at=clock() + ADVICE_RETRY).save(plan.folder)
        return Turn(outcome="waiting", sentence=f"No renewal advice: {exc.sentence}")
    renew_at = min(advice.renew_at or own_renewal_time(pair), pair.leaf.not_valid_after_utc)
    replace(state, renew_at=renew_at, advice_due_at=advice.ask_again_at).save(plan.folder)
    whose = "the authority" if advice.renew_at else "two thirds of its life"
    return Turn(outcome="advised", sentence=f"Renewal on {renew_at:%Y-%m-%d %H:%M} UTC, by {whose}.")


def _why_waiting(plan: AcmePlan, state: AcmeState, pair: Pair | None, now: datetime) -> str:
    if state.plan_id == plan.id and state.retry_at is not None and now < state.retry_at:
        return f"The last order failed; the next is tried at {state.retry_at:%Y-%m-%d %H:%M} UTC."
    return f"Nothing is due before {renewal_time(state, pair):%Y-%m-%d %H:%M} UTC."


def _utc_now() -> datetime:
    return datetime.now(UTC)
