"""Owns the proof that events become the right stories, that filters keep what they should, and how it looks."""

from typing import Any

import pytest

from gateway.trace.stories import SETTLE_S, BadFilter, Filter, Slowest, Stories, Story
from gateway.trace.view import clean, lines_of, ranking, seconds, size


def request(id_: str = "r1", **more: Any) -> dict[str, Any]:
    return {
        "event": "request", "time": 1.0, "id": id_, "client": "192.0.2.1", "method": "GET",
        "target": "/v1/x?a=b", **more,
    }  # fmt: skip


def answer(id_: str = "r1", **more: Any) -> dict[str, Any]:
    figures = {
        "event": "answer", "time": 3.5, "status": 200, "bytes_in": 0, "bytes_out": 5, "seconds": 0.5,
        "head_s": 0.4, "route": "core", "error": "",
    }  # fmt: skip
    return {**request(id_), **figures, **more}


def hop(id_: str = "r1", **more: Any) -> dict[str, Any]:
    return {
        "event": "hop", "time": 1.2, "hop": "core", "id": id_, "method": "GET", "target": "/v1/x", "status": 200,
        "bytes_out": 1, "bytes_in": 5, "head_s": 0.25, "seconds": 0.25, "error": "", **more,
    }  # fmt: skip


def told(*events: dict[str, Any], inspected: frozenset[str] = frozenset()) -> list[Story]:
    stories = Stories(inspected=inspected)
    for event in events:
        stories.add(event, 10.0)
    return stories.take_finished(10.0 + SETTLE_S)


def test_a_request_its_hops_and_its_answer_are_one_story_in_any_order_of_hops() -> None:
    [story] = told(request(), hop(target="/internal/tickets"), answer(), hop())
    assert story.answer is not None
    assert [event["target"] for event in story.hops] == ["/internal/tickets", "/v1/x"]
    assert story.as_json()["hops"] == story.hops


def test_a_story_waits_a_moment_for_the_last_word_of_its_hops() -> None:
    stories = Stories()
    stories.add(request(), 10.0)
    stories.add(answer(), 11.0)
    assert stories.take_finished(11.0 + SETTLE_S / 2) == []
    stories.add(hop(), 11.0 + SETTLE_S / 2)
    [story] = stories.take_finished(11.0 + SETTLE_S)
    assert len(story.hops) == 1
    assert stories.take_finished(99.0) == []


def test_many_hops_with_the_same_doubt_are_one_line_with_it() -> None:
    [story] = told(request(), *(hop(why=["The region differs."]) for _ in range(9)), hop(), answer())
    shown = list(lines_of(story, verbose=False))
    assert sum("× 9" in line for line in shown) == 1
    assert sum("The region differs." in line for line in shown) == 1


def test_a_hop_of_the_gateways_own_is_a_story_of_its_own() -> None:
    first, second = told(hop("", hop="s3"), hop("", hop="s3"))
    assert (first.answer, second.answer) == (None, None)
    assert first.as_json()["hop"] == "s3"


def test_what_the_inspector_tells_takes_the_place_of_the_gateways_word() -> None:
    stories = Stories(inspected=frozenset({"core"}))
    stories.add(request(), 1.0)
    stories.add(hop(target="/by/gateway"), 1.0)
    stories.add(hop(target="/by/mitmproxy"), 1.0, by_inspector=True)
    stories.add(hop(target="/s3", hop="s3"), 1.0)
    stories.add(answer(), 1.0)
    [story] = stories.take_finished(2.0)
    assert [event["target"] for event in story.hops] == ["/by/mitmproxy", "/s3"]


def test_a_request_that_runs_long_is_told_of_once_while_it_runs() -> None:
    stories = Stories()
    stories.add(request(), 10.0)
    assert stories.take_overdue(14.0) == []
    [story] = stories.take_overdue(16.0)
    assert list(lines_of(story, verbose=False)) == ["00:00:01.000 GET /v1/x?a=b … still running"]
    assert stories.take_overdue(17.0) == []
    assert stories.rest() == [story]


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (Filter(), True),
        (Filter(paths=("/v1/*",)), True),
        (Filter(paths=("/v2/*", "/v1/?")), True),
        (Filter(paths=("/v1",)), False),
        (Filter(statuses=("200",)), True),
        (Filter(statuses=("2XX", "404")), True),
        (Filter(statuses=("4xx",)), False),
        (Filter(statuses=("502",)), True),
        (Filter(methods=("get",)), True),
        (Filter(methods=("PUT", "POST")), False),
        (Filter(clients=("192.0.2.0/24",)), True),
        (Filter(clients=("192.0.2.2", "2001:db8::/32")), False),
        (Filter(slower_than_s=0.4), True),
        (Filter(slower_than_s=0.6), False),
    ],
)
def test_each_filter_keeps_what_it_names(wanted: Filter, kept: bool) -> None:
    [story] = told(request(), hop(status=502), answer())
    assert wanted.wants(story) is kept


def test_probes_are_shown_only_when_they_are_asked_for() -> None:
    [story] = told(request(target="/-/readyz"), answer(target="/-/readyz"))
    assert not Filter().wants(story)
    assert Filter(with_operations=True).wants(story)
    assert Filter(paths=("/-/*",)).wants(story)


@pytest.mark.parametrize("status", ["abc", "4x", "600", "99", ""])
def test_a_status_that_cannot_be_is_refused(status: str) -> None:
    with pytest.raises(BadFilter, match="no status"):
        Filter(statuses=(status,))


def test_a_client_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadFilter, match="no address"):
        Filter(clients=("example.org",))


def test_the_slowest_are_kept_and_ranked_whatever_their_order() -> None:
    slowest = Slowest(2)
    for took in (0.1, 0.5, 0.3, 0.2):
        [story] = told(answer(f"r{took}", seconds=took), hop(f"r{took}", seconds=took / 2))
        slowest.add(story)
    lines = list(ranking(slowest.ranked()))
    assert [line.split()[0] for line in lines] == ["500", "300"]
    assert "[core 250 ms]" in lines[0]


def test_a_story_is_a_line_with_its_hops_beneath_and_the_reasons() -> None:
    why = ["The secret key differs."]
    [story] = told(
        request(), hop(), hop(hop="s3", status=403, error="AccessDenied", why=why), answer(error="store_down")
    )
    lines = list(lines_of(story, verbose=False))
    assert (
        lines[0]
        == "00:00:03.000 GET /v1/x?a=b 200 500 ms (head 400 ms) ↑0 B ↓5 B store_down 192.0.2.1 core r1"
    )
    assert lines[1].strip() == "└ core GET /v1/x 200 250 ms ↑1 B ↓5 B"
    assert lines[2].strip() == "└ s3 GET /v1/x 403 250 ms ↑1 B ↓5 B AccessDenied"
    assert lines[3].strip() == "! The secret key differs."


def test_many_that_are_alike_are_one_line_and_a_failure_among_them_has_its_own() -> None:
    parts = [
        hop(hop="s3", method="PUT", target=f"/b/k?partNumber={number}", status=200) for number in range(9)
    ]
    parts[5] = parts[5] | {"status": 503, "error": "SlowDown"}
    [story] = told(request(), *parts, answer())
    assert [line.strip() for line in lines_of(story, verbose=False)][1:] == [
        "└ s3 PUT /b/k × 5 200 1.2 s ↑5 B ↓25 B",
        "└ s3 PUT /b/k?partNumber=5 503 250 ms ↑1 B ↓5 B SlowDown",
        *(f"└ s3 PUT /b/k?partNumber={number} 200 250 ms ↑1 B ↓5 B" for number in (6, 7, 8)),
    ]
    assert len(list(lines_of(story, verbose=True))) == 10


def test_heads_are_shown_only_when_they_are_asked_for() -> None:
    heads = {"request_head": [["host", "h"]], "answer_head": [["etag", "e"]]}
    [story] = told({**answer(), **heads})
    assert [line.strip() for line in lines_of(story, verbose=True)][1:] == ["> host: h", "< etag: e"]
    assert len(list(lines_of(story, verbose=False))) == 1


def test_a_stranger_cannot_write_on_the_terminal() -> None:
    [story] = told(answer(target="/\x1b[2J\x07evil\r\n", request_head=[["x\x1b", "\x9b31m"]]))
    text = "".join(lines_of(story, verbose=True))
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in text)
    assert clean("fine ü") == "fine ü"


def test_times_and_sizes_are_said_in_their_unit() -> None:
    assert [seconds(t) for t in (None, 0.0004, 0.0123, 0.9, 12.34)] == [
        "-",
        "0.4 ms",
        "12 ms",
        "900 ms",
        "12.3 s",
    ]
    assert [size(n) for n in (None, 0, 1023, 1024, 3 << 30, 5 << 40)] == [
        "0 B", "0 B", "1023 B", "1.0 KiB", "3.0 GiB", "5.0 TiB",
    ]  # fmt: skip


def test_parts_of_an_upload_that_began_before_the_trace_are_counted_once() -> None:
    parts = [hop(hop="s3", method="PUT", target=f"/b/k?partNumber={n}") for n in range(5)]
    first, rest = lines_of(Story(hops=parts), verbose=False)
    assert "PUT /b/k?partNumber=0" in first
    assert "PUT /b/k × 4" in rest


def test_why_the_first_hop_failed_is_told_though_it_stands_for_the_story() -> None:
    refused = hop(hop="s3", status=403, why=["the region differs"])
    lines = list(lines_of(Story(hops=[refused, hop(hop="s3")]), verbose=False))
    assert [line.strip()[:1] for line in lines[1:]] == ["!", "└"]
