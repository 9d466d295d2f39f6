"""When to order, how long to wait, and what an authority's prose says."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.acme.schedule import (
    FIRST_WAIT,
    LONGEST_WAIT,
    MOST_WAIT,
    RATE_LIMITED_WAIT,
    Step,
    begun,
    failed,
    next_step,
    own_renewal_time,
    retry_time_in,
    succeeded,
    wait_after,
)
from gateway.acme.state import AcmeState

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def step(state: AcmeState, *, usable: bool = True, renew_at: datetime | None = NOW + SECOND) -> Step:
    return next_step(state, plan_id="plan", usable=usable, renew_at=renew_at, now=NOW)


def test_without_a_usable_certificate_one_is_ordered() -> None:
    assert step(AcmeState(), usable=False) is Step.ORDER


def test_a_certificate_is_renewed_from_its_time_on() -> None:
    assert step(AcmeState(), renew_at=NOW + SECOND) is Step.WAIT
    assert step(AcmeState(), renew_at=NOW) is Step.ORDER


def test_a_pause_after_a_failure_is_kept_for_the_same_order_only() -> None:
    waiting = AcmeState(plan_id="plan", retry_at=NOW + SECOND)
    assert step(waiting, usable=False) is Step.WAIT
    assert step(AcmeState(plan_id="plan", retry_at=NOW), usable=False) is Step.ORDER
    assert step(AcmeState(plan_id="other", retry_at=NOW + SECOND), usable=False) is Step.ORDER


def test_advice_is_asked_for_when_it_is_due() -> None:
    assert step(AcmeState(advice_due_at=NOW)) is Step.ASK_ADVICE
    assert step(AcmeState(advice_due_at=NOW + SECOND)) is Step.WAIT


def test_two_thirds_of_the_life_less_a_fixed_share_of_its_own() -> None:
    start, end = NOW, NOW + timedelta(days=90)
    times = {own_renewal_time(serial, start, end) for serial in range(50)}
    assert len(times) == 50
    assert all(start + timedelta(days=58.5) <= t <= start + timedelta(days=60) for t in times)
    assert own_renewal_time(7, start, end) == own_renewal_time(7, start, end)


def test_waits_double_up_to_a_day_and_stay_below_five_tries_an_hour() -> None:
    assert [wait_after(n) for n in (1, 2, 3, 4)] == [FIRST_WAIT * f for f in (1, 2, 4, 8)]
    assert wait_after(9) == FIRST_WAIT * 256
    assert wait_after(10) == LONGEST_WAIT
    assert wait_after(10_000) == LONGEST_WAIT
    assert wait_after(1, spread=1.0) == FIRST_WAIT * 1.25
    assert sum((wait_after(n) for n in range(1, 5)), timedelta()) > timedelta(hours=1)


def test_an_authority_that_was_not_reached_is_tried_again_soon() -> None:
    soon = failed(AcmeState(), "no network", NOW, unreached=True).retry_at
    assert soon is not None
    assert NOW + timedelta(seconds=30) <= soon < NOW + timedelta(seconds=38)
    assert wait_after(10_000, unreached=True) == timedelta(hours=1)


def test_an_order_that_never_ended_counts_as_failed() -> None:
    state = begun(AcmeState(), "plan", NOW)
    assert state.retry_at == NOW + FIRST_WAIT
    assert step(state, usable=False) is Step.WAIT
    again = begun(AcmeState(plan_id="plan", failures=3), "plan", NOW)
    assert again.retry_at == NOW + FIRST_WAIT * 8
    assert begun(AcmeState(plan_id="other", failures=3), "plan", NOW).failures == 0


def test_failures_add_up_and_success_forgets_them() -> None:
    first = failed(begun(AcmeState(), "plan", NOW), "no", NOW)
    assert (first.failures, first.last_error, first.last_error_at) == (1, "no", NOW)
    assert first.retry_at is not None
    assert NOW + FIRST_WAIT <= first.retry_at <= NOW + FIRST_WAIT * 1.25
    second = failed(first, "no", NOW)
    assert second.retry_at is not None
    assert second.retry_at >= NOW + FIRST_WAIT * 2
    done = succeeded(second, NOW, NOW + timedelta(days=60))
    assert (done.failures, done.retry_at, done.last_error) == (0, None, "")
    assert done.renew_at == NOW + timedelta(days=60)


def test_what_the_authority_says_about_trying_again_is_kept_within_reason() -> None:
    later = NOW + timedelta(days=3)
    assert failed(AcmeState(), "limited", NOW, not_before=later).retry_at == later
    mad = NOW + timedelta(days=3000)
    assert failed(AcmeState(), "limited", NOW, not_before=mad).retry_at == NOW + MOST_WAIT
    soon = failed(AcmeState(), "limited", NOW, not_before=NOW).retry_at
    assert soon is not None
    assert soon >= NOW + FIRST_WAIT


@pytest.mark.parametrize(
    ("sentence", "when"),
    [
        (
            "too many certificates (5) already issued, retry after 2026-11-25 18:11:02 UTC: see https://x",
            datetime(2026, 11, 25, 18, 11, 2, tzinfo=UTC),
        ),
        ("Retry After 2026-11-25T18:11:02Z", datetime(2026, 11, 25, 18, 11, 2, tzinfo=UTC)),
        ("retry after 2026-99-25 18:11:02", NOW + RATE_LIMITED_WAIT),
        ("slow down", NOW + RATE_LIMITED_WAIT),
    ],
)
def test_the_time_in_an_authoritys_sentence_is_found(sentence: str, when: datetime) -> None:
    assert retry_time_in(sentence, NOW) == when
