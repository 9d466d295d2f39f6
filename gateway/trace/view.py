"""Owns how stories look on a terminal. Whatever came from outside is printed without control characters."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from gateway.trace.events import Event
from gateway.trace.stories import Story

_INDENT: Final = " " * 13
_KILO: Final = 1024
_ALIKE_SHOWN: Final = 3


def lines_of(story: Story, *, verbose: bool) -> Iterator[str]:
    """A story over, or one that runs long already."""
    main = story.main
    if story.answer is None and story.request is not None:
        yield f"{stamp(main)} {_what(main)} … still running"
    else:
        yield f"{stamp(main)} {_main_line(main)}"
    if verbose:
        yield from _heads(main)
    yield from _reasons(main)
    hops = [hop for hop in story.hops if hop is not main]
    for hop in hops if verbose else _shortened(hops):
        count = f" × {hop['count']}" if "count" in hop else ""
        yield f"{_INDENT}└ {clean(hop.get('hop', ''))} {_what(hop)}{count} {_outcome(hop)}"
        if verbose:
            yield from _heads(hop)
        yield from _reasons(hop)


def _reasons(event: Event) -> Iterator[str]:
    yield from (f"{_INDENT}! {clean(why)}" for why in event.get("why", ()))


def _shortened(hops: Iterable[Event]) -> Iterator[Event]:
    """The same, but many that are alike and went well as one, with their sums: a large file has thousands of parts."""
    for _, group in groupby(hops, key=_kind_of):
        alike = list(group)
        if len(alike) <= _ALIKE_SHOWN:
            yield from alike
            continue
        sums = {key: sum(hop.get(key) or 0 for hop in alike) for key in ("seconds", "bytes_out", "bytes_in")}
        yield {**alike[0], **sums, "target": _path(alike[0]), "head_s": None, "count": len(alike)}


def _kind_of(hop: Event) -> tuple[Any, ...]:
    same = id(hop) if hop.get("error") else tuple(hop.get("why", ()))
    return hop.get("hop"), hop.get("method"), _path(hop), hop.get("status"), same


def _path(hop: Event) -> str:
    return str(hop.get("target", "")).partition("?")[0]


def stamp(event: Event) -> str:
    """The time of day, UTC as in the log."""
    began = float(event.get("time", 0.0))
    if event.get("event") == "answer":
        began -= float(event.get("seconds") or 0.0)
    return datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds")[11:23]


def _main_line(event: Event) -> str:
    if event.get("event") == "hop":
        return f"{clean(event.get('hop', ''))} {_what(event)} {_outcome(event)} {clean(event.get('id', ''))}".rstrip()
    tail = f"{clean(event.get('client', ''))} {clean(event.get('route') or '-')} {clean(event.get('id', ''))}"
    return f"{_what(event)} {_outcome(event)} {tail}"


def _what(event: Event) -> str:
    return f"{clean(event.get('method', '-'))} {clean(event.get('target', '-'))}"


def _outcome(event: Event) -> str:
    # Seen from the gateway, a client sends what an upstream is sent: up is always away from the client.
    is_hop = event.get("event") == "hop"
    up, down = ("bytes_out", "bytes_in") if is_hop else ("bytes_in", "bytes_out")
    words = [
        str(event.get("status") or "---"),
        seconds(event.get("seconds")),
        f"↑{size(event.get(up))} ↓{size(event.get(down))}",
    ]
    if (head_s := event.get("head_s")) is not None and float(
        event.get("seconds") or 0.0
    ) - head_s > 0.1 * head_s:
        words.insert(2, f"(head {seconds(head_s)})")
    if error := event.get("error"):
        words.append(clean(error))
    return " ".join(words)


def _heads(event: Event) -> Iterator[str]:
    for mark, key in ((">", "request_head"), ("<", "answer_head")):
        fields: Iterable[Any] = event.get(key, ())
        yield from (f"{_INDENT}  {mark} {clean(name)}: {clean(value)}" for name, value in fields)


def seconds(value: Any) -> str:
    """1.3 ms, 250 ms, 12.4 s."""
    if value is None:
        return "-"
    took = float(value)
    if took >= 1:
        return f"{took:.1f} s"
    return f"{took * 1000:.0f} ms" if took >= 0.01 else f"{took * 1000:.1f} ms"  # noqa: PLR2004 - two digits


def size(value: Any) -> str:
    """812 B, 1.5 KiB, 3.0 GiB."""
    left = float(value or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < _KILO:
            return f"{left:.0f} {unit}" if unit == "B" else f"{left:.1f} {unit}"
        left /= _KILO
    return f"{left:.1f} TiB"


def clean(text: Any) -> str:
    """Text of a stranger, harmless to a terminal."""
    return "".join(char if char.isprintable() else "�" for char in str(text))


def ranking(stories: Iterable[Story]) -> Iterator[str]:
    """The slowest, each with the share of its hops."""
    for story in stories:
        hops = _shortened(story.hops)
        parts = ", ".join(f"{clean(hop.get('hop', ''))} {seconds(hop.get('seconds'))}" for hop in hops)
        answer = story.main
        yield (
            f"{seconds(story.seconds):>9}  {answer.get('status') or '---'} {_what(answer)}"
            f"  [{parts or 'gateway alone'}]  {stamp(answer)} {clean(answer.get('id', ''))}"
        )
