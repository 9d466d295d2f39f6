"""Owns the proof that hops are watched and led elsewhere; of S3, that an exchange becomes the right event."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from gateway.forward.pool import UpstreamPool
from gateway.settings import S3, Settings
from gateway.store.s3_answers import S3Answer, S3Fault
from gateway.store.s3_tap import S3Observer, S3Seen
from gateway.trace.case import clock_of
from gateway.trace.events import Event, Sight
from gateway.trace.hops import PoolHop, hops_of
from gateway.trace.s3_hop import OnS3Wire, S3Hop, expectation_of
from tests.support.signing import Signer

ENDPOINT = "minio:9000"
SETTINGS = Settings.model_validate(
    {"storage": {"kind": "s3", "s3": {"endpoint": ENDPOINT, "access_key": "minio", "secret_key": "minio123"}}}
)


class FakeWire:
    settings: S3 = SETTINGS.storage.s3
    keys: tuple[tuple[str, str], ...] = (("minio", "minio123"),)

    def __init__(self) -> None:
        self.observer: S3Observer | None = None
        self.address: tuple[str, int] | None = None

    def redirect(self, address: tuple[str, int] | None) -> None:
        self.address = address


class FakeStore:
    wire = FakeWire()


def seen(*exchanges: S3Seen, heads: bool = False) -> list[Event]:
    """What a listener is told of these."""
    events: list[Event] = []

    async def main() -> None:
        wire = FakeWire()
        hop = S3Hop(wire, SETTINGS)
        hop.watch(Sight(publish=events.append, wants_heads=lambda: heads))
        assert wire.observer is not None
        for exchange in exchanges:
            await asyncio.to_thread(wire.observer, exchange)
        await asyncio.sleep(0)
        hop.watch(None)
        assert wire.observer is None

    asyncio.run(main())
    return events


def refused(secret: str, code: str, *, skew: timedelta = timedelta(), method: str = "PUT") -> S3Seen:
    """An exchange as the wire has it after a refusal; the server's clock is right."""
    request = Signer(access_key="minio", secret_key=secret, host=ENDPOINT, skew=skew).header(
        method, "/b/k", b""
    )
    exchange = S3Seen(method=method, target=request.target, sent=dict(request.fields), sent_bytes=0)
    exchange.note_head(
        403, {"date": format_datetime(datetime.now(UTC), usegmt=True), "content-length": "300"}
    )
    fault = S3Fault("PUT k", S3Answer(status=403, headers={}, body=b"x" * 300, code=code))
    return exchange.ended_by(fault)


def test_an_exchange_becomes_an_event_with_its_figures() -> None:
    exchange = S3Seen(
        method="GET",
        target="/b/k?X-Amz-Signature=sesame",
        sent={"Authorization": "AWS4-HMAC-SHA256 Signature=sesame"},
        sent_bytes=7,
    )
    exchange.note_head(200, {"content-length": "12"})
    exchange.ended(7)
    [event] = seen(exchange, heads=True)
    figures: dict[str, Any] = {
        "hop": "s3", "status": 200, "bytes_out": 7, "bytes_in": 7, "error": "", "target": "/b/k?X-Amz-Signature=***",
    }  # fmt: skip
    assert figures.items() <= event.items()
    assert "sesame" not in str(event)
    assert "why" not in event


def test_a_refusal_is_explained_by_the_servers_own_clock() -> None:
    [wrong_key] = seen(refused("minio124", "SignatureDoesNotMatch"))
    assert wrong_key["why"][0].startswith(
        "The secret key or the host that was signed differs: the secret of 'minio'"
    )
    [late] = seen(refused("minio123", "RequestTimeTooSkewed", skew=timedelta(minutes=-20)))
    assert late["why"][0].startswith("The clocks differ")
    [silent] = seen(refused("minio123", "Unknown", method="HEAD"))
    assert (silent["error"], "without a reason" in silent["why"][0]) == ("", True)


def test_what_was_never_answered_has_the_name_of_its_failure() -> None:
    exchange = S3Seen(method="PUT", target="/b/k", sent={}, sent_bytes=5)
    exchange.ended_by(ConnectionRefusedError())
    [event] = seen(exchange)
    assert (event["status"], event["head_s"], event["error"]) == (0, None, "ConnectionRefusedError")


def test_the_wire_is_led_elsewhere_and_back() -> None:
    wire = FakeWire()
    hop = S3Hop(wire, SETTINGS)
    hop.detour(("127.0.0.1", 9))
    assert wire.address == ("127.0.0.1", 9)
    hop.detour(None)
    assert wire.address is None


def test_a_store_on_disk_has_no_wire() -> None:
    assert isinstance(FakeStore(), OnS3Wire)
    assert not isinstance(object(), OnS3Wire)


def test_every_upstream_is_a_hop_that_tells_where_it_leads() -> None:
    core = UpstreamPool("unix:/run/core.sock", connections=1, connect_s=1)
    found = list(hops_of(core, (), (FakeStore(), object()), SETTINGS))
    assert [(hop.kind, hop.describe()["url"]) for hop in found] == [
        ("core", "unix:/run/core.sock"),
        ("s3", "http://minio:9000"),
    ]


@pytest.mark.parametrize("url", ["http://[::1]:8000", "https://core.example.org:443", "unix:/run/core.sock"])
def test_the_url_of_an_upstream_is_the_one_it_was_made_with(url: str) -> None:
    assert PoolHop("core", UpstreamPool(url, connections=1, connect_s=1)).describe() == {"url": url}


def test_what_is_expected_of_a_signature_is_what_the_wire_signs_with_now() -> None:
    wire = FakeWire()
    wire.keys = (("minio", "minio123"), ("renewed", "secret"))
    settings = Settings.model_validate({"server": {"public_url": "https://images.example.org:8443"}})
    expected = expectation_of(S3Hop(wire, settings).describe())
    assert expected.secrets == {"minio": "minio123", "renewed": "secret"}
    assert expected.region == "us-east-1"
    assert expected.hosts == (ENDPOINT, "images.example.org:8443")


def test_the_servers_clock_is_that_of_the_time_when_the_request_came() -> None:
    date = "Tue, 24 Nov 2026 04:00:00 GMT"
    assert clock_of(date, asked=0, waited_s=3600) == datetime(2026, 11, 24, 3, tzinfo=UTC)
    assert clock_of("", asked=90, waited_s=3600) == datetime(1970, 1, 1, 0, 1, 30, tzinfo=UTC)
