"""Owns the proof of when a circuit opens, who may try, and what closes it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.forward.circuit import (
    CALM_S,
    FORGOTTEN_S,
    LEAST_SEEN,
    REFUSED,
    REMEMBERED,
    Circuit,
    CircuitPolicy,
    CircuitState,
)

POLICY = CircuitPolicy(max_fails=3, pause_s=1.0, pause_max_s=8.0)
SLOW = CircuitPolicy(max_fails=3, slow_s=2.0, slow_share=0.5)


def state_of(circuit: Circuit) -> CircuitState:
    """Its state now, whatever it was a line before."""
    return circuit.state


def failing(circuit: Circuit, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        circuit.failed(circuit.admit(now), now, "refused")


def answered(circuit: Circuit, took_s: float, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        circuit.succeeded(circuit.admit(now), now, took_s=took_s)


def test_failures_in_a_row_open_it_and_a_good_answer_between_them_does_not() -> None:
    circuit = Circuit(POLICY)
    failing(circuit, 2)
    answered(circuit, 0.1, 1)
    failing(circuit, 2)
    assert state_of(circuit) is CircuitState.closed
    failing(circuit, 1)
    assert state_of(circuit) is CircuitState.open
    assert circuit.admit(0.5) == REFUSED
    assert circuit.reason == "refused"


def test_one_request_tries_after_the_pause_and_its_answer_closes_the_circuit() -> None:
    circuit = Circuit(POLICY)
    failing(circuit, 3)
    tried = circuit.admit(1.0)
    assert tried != REFUSED
    assert state_of(circuit) is CircuitState.half_open
    assert circuit.admit(1.0) == REFUSED
    circuit.succeeded(tried, 1.1)
    assert state_of(circuit) is CircuitState.closed
    assert circuit.admit(1.1) != REFUSED


def test_each_try_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    circuit = Circuit(POLICY)
    failing(circuit, 3)
    now, pauses = 0.0, []
    for _ in range(6):
        pauses.append(circuit.next_try - now)
        now = circuit.next_try
        circuit.failed(circuit.admit(now), now, "refused")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_an_outage_soon_after_the_last_goes_on_with_its_pauses_and_a_later_one_does_not() -> None:
    for apart_s, pause_s in ((1.0, 2.0), (CALM_S, 1.0)):
        circuit = Circuit(POLICY)
        failing(circuit, 3)
        circuit.succeeded(circuit.admit(1.0), 1.0)
        failing(circuit, 3, now=1.0 + apart_s)
        assert circuit.next_try == 1.0 + apart_s + pause_s


def test_what_was_sent_before_it_opened_says_nothing_afterwards() -> None:
    circuit = Circuit(POLICY)
    old = circuit.admit(0.0)
    failing(circuit, 3)
    circuit.succeeded(old, 0.5)
    assert state_of(circuit) is CircuitState.open
    circuit.succeeded(circuit.admit(1.0), 1.0)
    for _ in range(5):
        circuit.failed(old, 1.0, "timed out")
    assert state_of(circuit) is CircuitState.closed


def test_a_try_whose_client_left_makes_room_for_the_next() -> None:
    circuit = Circuit(POLICY)
    failing(circuit, 3)
    circuit.abandoned(circuit.admit(1.0), 1.2)
    assert circuit.admit(1.2) != REFUSED


def test_a_try_that_hangs_does_not_keep_the_others_away_for_ever() -> None:
    circuit = Circuit(POLICY)
    failing(circuit, 3)
    hanging = circuit.admit(1.0)
    second = circuit.admit(2.0)
    assert REFUSED not in (hanging, second)
    circuit.failed(hanging, 2.1, "timed out")  # another one is trying by now
    assert state_of(circuit) is CircuitState.half_open
    circuit.succeeded(second, 2.2)
    assert state_of(circuit) is CircuitState.closed


def test_what_must_not_be_in_vain_is_a_try_whatever_the_pause() -> None:
    for is_probed in (False, True):
        circuit = Circuit(replace(POLICY, is_probed=is_probed))
        assert circuit.insist(0.0) == circuit.admit(0.0)
        failing(circuit, 3)
        circuit.failed(circuit.insist(0.1), 0.1, "refused")
        assert state_of(circuit) is CircuitState.open
        circuit.succeeded(circuit.insist(0.2), 0.3)
        assert state_of(circuit) is CircuitState.closed


def test_slow_answers_open_it_only_where_a_threshold_is_set() -> None:
    for policy, state in ((SLOW, CircuitState.open), (POLICY, CircuitState.closed)):
        circuit = Circuit(policy)
        answered(circuit, 2.0, LEAST_SEEN)
        assert state_of(circuit) is state


def test_few_or_old_slow_answers_tell_nothing() -> None:
    circuit = Circuit(SLOW)
    answered(circuit, 9.0, LEAST_SEEN - 1)
    answered(circuit, 9.0, LEAST_SEEN - 1, now=FORGOTTEN_S + 1)
    assert state_of(circuit) is CircuitState.closed


def test_less_than_the_share_of_slow_answers_is_fine() -> None:
    circuit = Circuit(replace(SLOW, slow_share=0.6))
    for _ in range(REMEMBERED):
        answered(circuit, 9.0, 1)
        answered(circuit, 0.1, 1)
    assert state_of(circuit) is CircuitState.closed


def test_a_try_that_is_slow_fails() -> None:
    circuit = Circuit(SLOW)
    answered(circuit, 9.0, LEAST_SEEN)
    circuit.succeeded(circuit.admit(1.0), 4.0, took_s=3.0)
    assert state_of(circuit) is CircuitState.open
    assert "3.0 s" in circuit.reason


def test_where_a_check_asks_no_request_tries() -> None:
    circuit = Circuit(replace(POLICY, is_probed=True))
    failing(circuit, 3)
    assert circuit.admit(100.0) == REFUSED
    assert circuit.refuses(100.0)
    circuit.probe_succeeded(100.0)
    assert circuit.admit(100.0) != REFUSED


def test_checks_that_fail_open_it_and_the_first_good_one_closes_it() -> None:
    circuit = Circuit(replace(POLICY, is_probed=True))
    for at in range(3):
        assert state_of(circuit) is CircuitState.closed
        circuit.probe_failed(float(at), "503")
    assert circuit.admit(2.0) == REFUSED
    circuit.probe_failed(3.0, "504")
    assert circuit.reason == "504"
    circuit.probe_succeeded(3.1)
    assert state_of(circuit) is CircuitState.closed


def test_a_good_check_does_not_cut_the_pause_short_that_requests_caused() -> None:
    circuit = Circuit(replace(POLICY, is_probed=True))
    failing(circuit, 3)
    circuit.probe_succeeded(0.5)
    assert state_of(circuit) is CircuitState.open


def test_with_no_failures_to_count_only_checks_open_it() -> None:
    circuit = Circuit(CircuitPolicy(max_fails=0, is_probed=True))
    failing(circuit, 100)
    assert state_of(circuit) is CircuitState.closed
    circuit.probe_failed(0.0, "refused")
    assert state_of(circuit) is CircuitState.open


def test_another_process_is_given_a_new_chance() -> None:
    changes: list[CircuitState] = []
    circuit = Circuit(POLICY, changed=lambda it: changes.append(it.state))
    failing(circuit, 3)
    circuit.reset(0.1)
    circuit.reset(0.2)
    assert changes == [CircuitState.open, CircuitState.closed]
    failing(circuit, 2, now=0.3)
    assert state_of(circuit) is CircuitState.closed


STEP = st.tuples(
    st.sampled_from(["admit", "succeed", "slow", "fail", "abandon", "probe_ok", "probe_bad", "wait"]),
    st.integers(0, 5),
)


@given(steps=st.lists(STEP, max_size=200), is_probed=st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_happens_an_open_circuit_lets_few_through_and_a_well_upstream_closes_it(
    steps: list[tuple[str, int]], *, is_probed: bool
) -> None:
    circuit = Circuit(replace(POLICY, slow_s=2.0, is_probed=is_probed))
    now, passes = 0.0, [circuit.admit(0.0)]
    for what, number in steps:
        given_pass = passes[-1 - number % len(passes)]
        match what:
            case "admit":
                was_closed, due = circuit.state is CircuitState.closed, now >= circuit.next_try
                got = circuit.admit(now)
                assert (got != REFUSED) == (was_closed or (due and not is_probed))
                assert was_closed or got == REFUSED or circuit.admit(now) == REFUSED
                passes += [got] if got != REFUSED else []
            case "succeed":
                circuit.succeeded(given_pass, now, took_s=0.1)
            case "slow":
                circuit.succeeded(given_pass, now, took_s=5.0)
            case "fail":
                circuit.failed(given_pass, now, "x")
            case "abandon":
                circuit.abandoned(given_pass, now)
            case "probe_ok":
                circuit.probe_succeeded(now)
            case "probe_bad":
                circuit.probe_failed(now, "x")
            case _:
                now += number / 2
        assert circuit.next_try - now <= POLICY.pause_max_s
    now += POLICY.pause_max_s
    if is_probed:
        circuit.probe_succeeded(now)
    else:
        circuit.succeeded(circuit.admit(now), now, took_s=0.1)
    assert state_of(circuit) is CircuitState.closed
