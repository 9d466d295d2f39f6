"""Owns when a certificate is ordered, and how long to wait after a failure. Pure."""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from gateway.acme.state import AcmeState

RENEW_AFTER_SHARE: Final = 2 / 3
JITTER_SHARE: Final = 1 / 60  # a day and a half of 90 days: not all of the world's certificates at one moment

# Let's Encrypt allows five failed validations per name and hour: 5 + 10 + 20 + 40 minutes stay below.
FIRST_WAIT: Final = timedelta(minutes=5)
LONGEST_WAIT: Final = timedelta(hours=24)
# A machine may start before its network does.
FIRST_WAIT_UNREACHED: Final = timedelta(seconds=30)
LONGEST_WAIT_UNREACHED: Final = timedelta(hours=1)
RATE_LIMITED_WAIT: Final = timedelta(hours=1)
MOST_WAIT: Final = timedelta(
    days=8
)  # its longest window is a week; a typing error must not stop us for years

_RETRY_AFTER: Final = re.compile(r"retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)", re.IGNORECASE)


class Step(Enum):
    """What a turn has to do."""

    WAIT = "wait"
    ASK_ADVICE = "ask advice"
    ORDER = "order"


def next_step(
    state: AcmeState, *, plan_id: str, usable: bool, renew_at: datetime | None, now: datetime
) -> Step:
    """What is due. ``usable``: a certificate is there that covers the plan's names and has not expired."""
    if state.plan_id == plan_id and state.retry_at is not None and now < state.retry_at:
        return Step.WAIT
    if not usable or renew_at is None or now >= renew_at:
        return Step.ORDER
    if state.advice_due_at is not None and now >= state.advice_due_at:
        return Step.ASK_ADVICE
    return Step.WAIT


def own_renewal_time(serial: int, not_before: datetime, not_after: datetime) -> datetime:
    """Two thirds of the lifetime, a little earlier by a share that is fixed for each certificate."""
    life = not_after - not_before
    share = int.from_bytes(hashlib.sha256(str(serial).encode()).digest()[:4]) / 2**32
    return not_before + life * (RENEW_AFTER_SHARE - JITTER_SHARE * share)


def begun(state: AcmeState, plan_id: str, now: datetime) -> AcmeState:
    """The state while an order runs: a crash now counts as a failure, so that a crash loop orders nothing."""
    failures = state.failures if state.plan_id == plan_id else 0
    return replace(state, plan_id=plan_id, failures=failures, retry_at=now + wait_after(failures + 1))


def failed(
    state: AcmeState,
    sentence: str,
    now: datetime,
    *,
    not_before: datetime | None = None,
    unreached: bool = False,
) -> AcmeState:
    """The state after a failed order. ``not_before`` is what the authority said about trying again."""
    failures = state.failures + 1
    spread = _spread(state.plan_id, failures)
    retry_at = now + wait_after(failures, spread=spread, unreached=unreached)
    if not_before is not None:
        retry_at = min(max(retry_at, not_before), now + MOST_WAIT)
    return replace(state, failures=failures, retry_at=retry_at, last_error=sentence, last_error_at=now)


def succeeded(state: AcmeState, now: datetime, renew_at: datetime) -> AcmeState:
    """The state after a new certificate; the authority's advice is asked for soon."""
    return replace(
        state,
        failures=0,
        retry_at=None,
        last_error="",
        last_error_at=None,
        issued_at=now,
        renew_at=renew_at,
        advice_due_at=now,
    )


def wait_after(failures: int, *, spread: float = 0.0, unreached: bool = False) -> timedelta:
    """How long to wait after so many failures in a row; up to a quarter longer by ``spread``."""
    first = FIRST_WAIT_UNREACHED if unreached else FIRST_WAIT
    longest = LONGEST_WAIT_UNREACHED if unreached else LONGEST_WAIT
    return min(first * (1 << min(failures - 1, 12)), longest) * (1 + spread / 4)


def retry_time_in(sentence: str, now: datetime) -> datetime:
    """When an authority that limits our rate will listen again; it says so in prose only."""
    found = _RETRY_AFTER.search(sentence)
    if found is None:
        return now + RATE_LIMITED_WAIT
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC)
    except ValueError:
        return now + RATE_LIMITED_WAIT


def _spread(plan_id: str, failures: int) -> float:
    return hashlib.sha256(f"{plan_id}{failures}".encode()).digest()[0] / 255
