"""Owns the proof that an exchange with S3 becomes the right event, and its refusal a sentence."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from gateway.forward.origin import Origin
from gateway.settings import Settings
from gateway.store.s3_tap import S3Observer, S3Seen
from gateway.trace.hops import OnS3Wire, S3Hop, clock_of
from gateway.trace.observers import Event, Sight
from tests.support.signing import Signer

ENDPOINT = "minio:9000"
SETTINGS = Settings.model_validate(
    {"storage": {"kind": "s3", "s3": {"endpoint": ENDPOINT, "access_key": "minio", "secret_key": "minio123"}}}
)


class FakeWire:
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
    exchange.note_end(code=code)
    return exchange


def test_an_exchange_becomes_an_event_with_its_figures() -> None:
    exchange = S3Seen(
        method="GET",
        target="/b/k?X-Amz-Signature=sesame",
        sent={"Authorization": "AWS4-HMAC-SHA256 Signature=sesame"},
        sent_bytes=7,
    )
    exchange.note_head(200, {"content-length": "12"})
    exchange.note_end()
    [event] = seen(exchange, heads=True)
    figures: dict[str, Any] = {
        "hop": "s3", "status": 200, "bytes_out": 7, "bytes_in": 12, "error": "", "target": "/b/k?X-Amz-Signature=***",
    }  # fmt: skip
    assert figures.items() <= event.items()
    assert "sesame" not in str(event)
    assert "why" not in event


def test_a_refusal_is_explained_by_the_servers_own_clock() -> None:
    [wrong_key] = seen(refused("minio124", "SignatureDoesNotMatch"))
    assert wrong_key["why"][0].startswith("The secret key differs: 'minio'")
    [late] = seen(refused("minio123", "RequestTimeTooSkewed", skew=timedelta(minutes=-20)))
    assert late["why"][0].startswith("The clocks differ")
    [silent] = seen(refused("minio123", "Unknown", method="HEAD"))
    assert (silent["error"], "without a reason" in silent["why"][0]) == ("", True)


def test_what_was_never_answered_has_the_name_of_its_failure() -> None:
    exchange = S3Seen(method="PUT", target="/b/k", sent={}, sent_bytes=5)
    exchange.note_end(error=ConnectionRefusedError())
    [event] = seen(exchange)
    assert (event["status"], event["head_s"], event["error"]) == (0, None, "ConnectionRefusedError")


def test_the_wire_is_led_elsewhere_and_back() -> None:
    wire = FakeWire()
    hop = S3Hop(wire, SETTINGS)
    hop.detour(Origin(host="127.0.0.1", port=9))
    assert wire.address == ("127.0.0.1", 9)
    hop.detour(None)
    assert wire.address is None


def test_a_store_on_disk_has_no_wire() -> None:
    assert isinstance(FakeStore(), OnS3Wire)
    assert not isinstance(object(), OnS3Wire)


def test_a_server_without_a_clock_is_taken_to_have_ours() -> None:
    assert abs((clock_of("") - datetime.now(UTC)).total_seconds()) < 60
    assert clock_of("Tue, 24 Nov 2026 04:00:00 GMT") == datetime(2026, 11, 24, 4, tzinfo=UTC)
