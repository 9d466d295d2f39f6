"""Owns how many requests are too many."""

from registry_core.rates import BURST_S, RateLimit


def test_a_burst_is_free_and_then_the_rate_holds() -> None:
    now = [1000.0]
    limit = RateLimit(per_s=10, clock=lambda: now[0])
    allowed = 0
    while not limit.wait_s("a"):
        limit.charge("a")
        allowed += 1
    assert allowed == 10 * BURST_S + 1
    assert limit.wait_s("b") == 0
    now[0] += limit.wait_s("a")
    assert limit.wait_s("a") == 0


def test_an_idle_key_saves_no_more_than_a_burst() -> None:
    now = [1000.0]
    limit = RateLimit(per_s=1, clock=lambda: now[0])
    limit.charge("a")
    now[0] += 10_000
    limit.charge("a", BURST_S)
    assert limit.wait_s("a") == 0
    limit.charge("a")
    assert limit.wait_s("a") == 1


def test_no_rate_is_no_limit() -> None:
    limit = RateLimit(per_s=0, clock=lambda: 0.0)
    for _ in range(100):
        limit.charge("a")
    assert limit.wait_s("a") == 0
