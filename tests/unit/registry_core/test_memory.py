"""Owns what a process remembers, and for how long."""

from registry_core import memory
from registry_core.memory import ShortMemory, Tally


def test_values_are_believed_for_their_time() -> None:
    now = [0.0]
    remembered = ShortMemory[str](ttl_s=2.0, clock=lambda: now[0])
    remembered.put("a", "x")
    now[0] = 1.9
    assert remembered.get("a") == "x"
    now[0] = 2.0
    assert remembered.get("a") is None
    remembered.put("a", "y")
    remembered.clear()
    assert remembered.get("a") is None


def test_a_clock_that_is_set_back_makes_nothing_be_believed_for_longer() -> None:
    """A revoked token must not live again for an hour."""
    now = [10_000.0]
    remembered = ShortMemory[str](ttl_s=2.0, clock=lambda: now[0])
    remembered.put("a", "x")
    now[0] -= 3600
    assert remembered.get("a") is None


def test_no_more_than_the_bound_is_kept() -> None:
    remembered = ShortMemory[int](ttl_s=2.0, clock=lambda: 0.0)
    for number in range(memory.MOST_REMEMBERED + 1):
        remembered.put(str(number), number)
    assert remembered.get("0") is None
    assert remembered.get("1") == 1


def test_a_tally_is_taken_once() -> None:
    tally = Tally()
    for image in (1, 1, 2):
        tally.add(image)
    assert dict(tally.take()) == {1: 2, 2: 1}
    assert not tally.take()


def test_what_could_not_be_written_is_counted_again() -> None:
    tally = Tally()
    tally.add(1)
    taken = tally.take()
    tally.add(1)
    tally.put_back(taken)
    assert dict(tally.take()) == {1: 2}
