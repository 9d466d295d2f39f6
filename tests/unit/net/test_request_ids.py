"""The names of requests are not used again by a process that answers millions."""

from gateway.net.answer import RequestIds


def test_a_request_after_sixteen_million_has_a_name_of_its_own() -> None:
    ids = RequestIds()
    first = [ids.next() for _ in range(3)]
    ids._count = 0xFFFFFF  # a day later
    later = [ids.next() for _ in range(4)]
    assert len({*first, *later}) == 7
    assert {len(name) for name in later} == {16}
