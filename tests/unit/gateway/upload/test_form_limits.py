"""Tests of every limit: one below, exactly, one above; and of the work that hostile forms cause."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import BadForm, BodyTooLarge, ClientError
from gateway.upload.form import FormDecoder, FormLimits, PartData
from tests.support.forms import form, part, read_form

FILE = 'name="f"; filename="x"'


def _padded_head(size: int) -> bytes:
    head = 'name="a"\r\nX-Pad: '
    return form(part(head + "p" * (size - len("Content-Disposition: form-data; " + head)), b"v"))


# limit, its value, the refusal, and a form that has this much of it
LIMITED: dict[str, tuple[int, type[ClientError], Callable[[int], bytes]]] = {
    "fields": (3, BodyTooLarge, lambda n: form(*[part('name="a"')] * n)),
    "files": (3, BodyTooLarge, lambda n: form(*[part(FILE)] * n)),
    "field_bytes": (300, BodyTooLarge, lambda n: form(part('name="a"', b"v" * n))),
    "header_bytes": (700, BadForm, _padded_head),
    "headers": (4, BadForm, lambda n: form(part('name="a"' + "\r\nX-A: b" * (n - 1)))),
    "total_bytes": (200, BodyTooLarge, lambda n: form(part(FILE)) + b"e" * (n - len(form(part(FILE))))),
    "preamble_bytes": (50, BadForm, lambda n: b"p" * n + b"\r\n" + form()),
    "epilogue_bytes": (50, BadForm, lambda n: form() + b"e" * n),
    "lookalikes": (
        5,
        BadForm,
        lambda n: form(part(FILE, b"\r\n--bX\r\n--b\rX" * (n // 2) + b"\r\n--b." * (n % 2))),
    ),
}


@pytest.mark.parametrize("limit", LIMITED)
def test_a_limit_is_met_exactly(limit: str) -> None:
    value, refusal, make = LIMITED[limit]
    settings: dict[str, Any] = {limit: value}
    limits = FormLimits(**settings)
    for body in (make(value - 1), make(value)):
        read_form(body, limits=limits)
        read_form(body, limits=limits, cuts=range(1, len(body)))
    body = make(value + 1)
    for cuts in ([], [len(body) // 2], range(1, len(body))):
        with pytest.raises(refusal):
            read_form(body, limits=limits, cuts=cuts)


def test_the_line_end_of_the_first_delimiter_is_no_preamble() -> None:
    read_form(b"\r\n" + form(), limits=FormLimits(preamble_bytes=0))
    with pytest.raises(BadForm):
        read_form(b"x\r\n" + form(), limits=FormLimits(preamble_bytes=0))


def test_a_files_size_is_not_limited_here() -> None:
    read_form(form(part(FILE, b"v" * 1000)), limits=FormLimits(field_bytes=10))


def test_empty_file_inputs_count_as_fields_not_as_files() -> None:
    body = form(part(FILE, b"v"), *[part('name="g"; filename=""')] * 3)
    read_form(body, limits=FormLimits(files=1, fields=3))
    with pytest.raises(BodyTooLarge, match="2 fields"):
        read_form(body, limits=FormLimits(files=1, fields=2))


def test_a_header_block_without_end_is_refused_at_the_limit_not_at_its_end() -> None:
    decoder = FormDecoder(b"b", FormLimits(header_bytes=1000))
    block = bytearray(b"--b\r\nX: " + b"x" * 2000)
    with pytest.raises(BadForm, match="longer than 1000"):
        list(decoder.feed(block, 0, len(block)))


class CountingBlock(bytearray):
    """A block that counts the bytes which searches and slices may have looked at."""

    examined = 0

    def find(self, sub: Any, start: Any = None, end: Any = None) -> int:
        at = super().find(sub, start, end)
        self.examined += (at + len(sub) if at >= 0 else end) - start
        return at

    def rfind(self, sub: Any, start: Any = None, end: Any = None) -> int:
        self.examined += end - start
        return super().rfind(sub, start, end)

    def startswith(self, prefix: Any, start: Any = None, end: Any = None) -> bool:
        self.examined += len(prefix)
        return super().startswith(prefix, start, end)

    def __getitem__(self, index: Any) -> Any:
        self.examined += len(range(*index.indices(len(self)))) if isinstance(index, slice) else 1
        return super().__getitem__(index)


HOSTILE: dict[str, bytes] = {
    "CR": b"\r",
    "CRLF": b"\r\n",
    "CRLF--": b"\r\n--",
    "dashes": b"-",
    "almost the delimiter": b"\r\n--bbbbbbb",
    "lookalikes": b"\r\n--bbbbbbbbX",
    "slow lookalikes": b"\r\n--bbbbbbbb\rX",
    "padded lookalikes": b"\r\n--bbbbbbbb  \tX",
    "zeros": b"\0",
}


@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("block_size", [1, 7, 64, 4096])
def test_hostile_data_costs_a_bounded_look_at_each_byte(pattern: bytes, block_size: int) -> None:
    examined, events = _work(pattern, block_size, 64 * 1024)
    assert examined <= 12 * 64 * 1024
    assert events <= 64 * 1024


@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE.keys())
def test_twice_the_hostile_data_costs_twice_the_work(pattern: bytes) -> None:
    small, _ = _work(pattern, 512, 32 * 1024)
    large, _ = _work(pattern, 512, 64 * 1024)
    assert large <= 2.1 * small


def _work(pattern: bytes, block_size: int, size: int) -> tuple[int, int]:
    boundary = b"bbbbbbbb"
    decoder = FormDecoder(boundary, FormLimits(lookalikes=size))
    head = bytearray(part(FILE)[:-2].replace(b"--b", b"--" + boundary))
    assert len(list(decoder.feed(head, 0, len(head)))) == 1
    data = (pattern * (size // len(pattern) + 1))[:size]
    examined = events = returned = 0
    for start in range(0, size, block_size):
        block = CountingBlock(data[start : start + block_size])
        for event in decoder.feed(block, 0, len(block)):
            assert isinstance(event, PartData)
            events += 1
            returned += len(event.data)
        examined += block.examined
    assert size - returned < 150  # nothing is hoarded
    return examined, events
