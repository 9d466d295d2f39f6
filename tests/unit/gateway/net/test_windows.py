"""How much clients are allowed to send, and that it is never more than was promised in all."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.net.windows import (
    CONNECTION_BYTES,
    INITIAL_BYTES,
    STREAM_BYTES,
    ConnectionWindow,
    StreamWindow,
    WindowBudget,
)

PLENTY = 1 << 30


def test_a_stream_that_nobody_reads_stays_small_and_one_that_is_read_grows() -> None:
    connection, stream = ConnectionWindow(WindowBudget(PLENTY)), StreamWindow()
    assert stream.update(unread=0, to_come=None) == 0
    connection.lend(stream, STREAM_BYTES)
    assert stream.update(unread=0, to_come=None) == STREAM_BYTES - INITIAL_BYTES
    assert connection.update() == CONNECTION_BYTES - INITIAL_BYTES + stream.lent
    assert connection.open_bytes > stream.open_bytes


def test_what_is_unread_is_not_allowed_again() -> None:
    stream = StreamWindow()
    stream.open_bytes = 0
    assert stream.update(unread=INITIAL_BYTES, to_come=None) == 0
    assert stream.update(unread=INITIAL_BYTES // 2, to_come=None) == INITIAL_BYTES - INITIAL_BYTES // 2


def test_no_more_is_allowed_than_the_body_still_has() -> None:
    connection, stream = ConnectionWindow(WindowBudget(PLENTY)), StreamWindow()
    connection.lend(stream, STREAM_BYTES)
    assert stream.update(unread=0, to_come=INITIAL_BYTES) == 0
    assert stream.update(unread=0, to_come=INITIAL_BYTES + 1) > 0


def test_without_a_budget_a_stream_keeps_the_window_that_the_protocol_gives() -> None:
    budget = WindowBudget(1000)
    connection, first, second = ConnectionWindow(budget), StreamWindow(), StreamWindow()
    connection.lend(first, STREAM_BYTES)
    connection.lend(second, STREAM_BYTES)
    assert (first.lent, second.lent, budget.left) == (1000, 0, 0)
    second.open_bytes = 0
    assert second.update(unread=0, to_come=None) == INITIAL_BYTES


def test_what_was_lent_comes_back_when_the_client_has_used_it_up() -> None:
    budget = WindowBudget(PLENTY)
    connection, stream = ConnectionWindow(budget), StreamWindow()
    connection.lend(stream, STREAM_BYTES)
    lent = stream.lent
    connection.update()
    connection.end(stream)
    assert connection.update() == 0
    assert budget.left == PLENTY - lent  # the client may still send all of it
    connection.open_bytes -= lent
    connection.update()
    assert budget.left == PLENTY


def test_a_closed_connection_owes_nothing() -> None:
    budget = WindowBudget(PLENTY)
    connection = ConnectionWindow(budget)
    connection.lend(StreamWindow(), STREAM_BYTES)
    connection.close()
    assert budget.left == PLENTY
    connection.lend(StreamWindow(), STREAM_BYTES)
    assert budget.left == PLENTY


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "end", "send", "read"]), st.integers(0, 5_000_000)), max_size=60
    )
)
def test_what_clients_may_send_never_exceeds_the_budget(steps: list[tuple[str, int]]) -> None:
    limit = 10_000_000
    budget = WindowBudget(limit)
    connection = ConnectionWindow(budget)
    streams: list[StreamWindow] = []
    for step, amount in steps:
        if step == "open":
            streams.append(StreamWindow())
            connection.lend(streams[-1], amount)
        elif step == "end" and streams:
            connection.end(streams.pop(amount % len(streams)))
        elif step == "send":
            sent = min(amount, connection.open_bytes)
            connection.open_bytes -= sent
            connection.unread += sent
        elif step == "read":
            connection.unread -= min(amount, connection.unread)
        connection.update()
        assert connection.open_bytes + connection.unread <= CONNECTION_BYTES + limit - budget.left
        assert 0 <= budget.left <= limit
    connection.close()
    assert budget.left == limit
