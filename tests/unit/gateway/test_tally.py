"""Owns what workers count together: every process sees the sum, and one that was killed takes its share with it."""

import os

from gateway.tally import TALLY_VARIABLE, Kind, Tally, clear_tally, open_tally, share_tally


def test_the_only_process_counts_for_itself() -> None:
    tally = open_tally({}, worker=None)
    uploads, connections = tally.count(Kind.UPLOADS), tally.count(Kind.CONNECTIONS)
    uploads.change(2)
    connections.change(5)
    uploads.change(-1)
    assert (uploads.total, connections.total) == (1, 5)
    assert Tally.alone().count(Kind.UPLOADS).total == 0


def _worker(fd: int, number: int) -> Tally:
    return open_tally({TALLY_VARIABLE: str(os.dup(fd))}, worker=number)


def test_workers_see_the_sum_and_a_worker_that_comes_again_has_none() -> None:
    fd = share_tally(3)
    try:
        counts = [_worker(fd, number).count(Kind.CONNECTIONS) for number in (1, 2, 3)]
        for number, count in enumerate(counts, 1):
            count.change(number)
        assert [count.total for count in counts] == [6, 6, 6]
        again = _worker(fd, 2).count(Kind.CONNECTIONS)
        assert [count.total for count in (*counts, again)] == [4] * 4
        again.change(7)
        assert counts[0].total == 11
        assert _worker(fd, 1).count(Kind.UPLOADS).total == 0
    finally:
        os.close(fd)


def test_a_dead_worker_has_nothing_in_use() -> None:
    fd = share_tally(2)
    one, two = (open_tally({TALLY_VARIABLE: str(os.dup(fd))}, worker=worker) for worker in (1, 2))
    for kind in Kind:
        one.count(kind).change(3)
        two.count(kind).change(4)
    clear_tally(fd, worker=2)
    assert [one.count(kind).total for kind in Kind] == [3, 3]
    os.close(fd)
