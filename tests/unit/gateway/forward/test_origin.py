"""Owns the proof of what is an origin, and of what may be sent twice."""

import pytest

from gateway.forward.origin import Origin
from gateway.forward.pool import may_resend


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("unix:/run/core.sock", Origin(path="/run/core.sock")),
        ("unix:///run/core.sock", Origin(path="/run/core.sock")),
        ("http://core:8000", Origin(host="core", port=8000)),
        ("http://core/", Origin(host="core", port=80)),
        ("https://core.example", Origin(host="core.example", port=443, is_tls=True)),
        ("http://[::1]:8000", Origin(host="::1", port=8000)),
    ],
)
def test_an_origin_is_a_socket_or_a_host(text: str, origin: Origin) -> None:
    assert Origin.parse(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "core:8000", "unix:relative.sock", "ftp://core", "http://", "http://core/path", "http://core:99999"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the sentence differs
        Origin.parse(text)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("unsent", [False, True])
def test_only_what_was_not_sent_or_lost_the_race_of_reuse_may_be_sent_again(
    method: str, unsent: bool
) -> None:
    harmless = method not in {"POST", "PATCH"}
    assert may_resend(method=method, is_reused=True, body_begun=False, unsent=unsent) is (unsent or harmless)
    assert may_resend(method=method, is_reused=False, body_begun=False, unsent=unsent) is unsent
    assert not may_resend(method=method, is_reused=True, body_begun=True, unsent=unsent)
