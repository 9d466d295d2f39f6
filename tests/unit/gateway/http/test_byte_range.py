"""Range requests against a file of ten bytes."""

import pytest

from gateway.errors import RangeNotSatisfiable
from gateway.http.byte_range import ByteRange, choose_range
from gateway.http.head import NO_BODY, Fields, RequestHead


def ask(*fields: tuple[str, str], method: str = "GET") -> RequestHead:
    return RequestHead(method=method, target="/", fields=Fields(fields), framing=NO_BODY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-9", ByteRange(0, 10)),
        ("bytes=2-5", ByteRange(2, 4)),
        ("bytes=5-", ByteRange(5, 5)),
        ("bytes=5-99", ByteRange(5, 5)),
        ("bytes=-3", ByteRange(7, 3)),
        ("bytes=-99", ByteRange(0, 10)),
        ("Bytes = 1-2", ByteRange(1, 2)),
        ("bytes=0-1,3-4", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_means(text: str, expected: ByteRange | None) -> None:
    assert choose_range(ask(("range", text)), size=10, etag='"x"') == expected


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_outside_the_file_is_refused_and_names_the_size(text: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        choose_range(ask(("range", text)), size=10, etag='"x"')
    assert caught.value.headers == (("content-range", "bytes */10"),)


def test_if_range_with_another_etag_means_the_whole_file() -> None:
    fields = ("range", "bytes=1-2")
    assert choose_range(ask(fields, ("if-range", '"x"')), size=10, etag='"x"') == ByteRange(1, 2)
    assert choose_range(ask(fields, ("if-range", '"y"')), size=10, etag='"x"') is None


def test_a_post_has_no_range() -> None:
    assert choose_range(ask(("range", "bytes=1-2"), method="POST"), size=10, etag="") is None


def test_content_range_counts_from_zero_to_the_last_byte() -> None:
    assert ByteRange(2, 4).content_range(10) == "bytes 2-5/10"
