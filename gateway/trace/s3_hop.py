"""Owns how a bucket in S3 is watched, and led through a proxy; by the gateway and by the core."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from gateway.mask import mask_target
from gateway.settings import S3, Settings
from gateway.store.s3_tap import S3Observer, S3Seen
from gateway.trace.case import REFUSALS, Case, Expectation, clock_of
from gateway.trace.events import Address, Event, Sight
from gateway.trace.masking import mask_fields

_NO_CODE: Final = "Unknown"  # the answer to HEAD has no body that says one


class Wire(Protocol):
    """The part of ``store.s3.S3Wire`` that is needed here."""

    observer: S3Observer | None

    @property
    def settings(self) -> S3:
        """Where it leads. Its keys may have been renewed since."""
        ...

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """The pairs that it signs with."""
        ...

    def redirect(self, address: Address | None) -> None:
        """Dial this plain address from now on; None: the endpoint again."""
        ...


@runtime_checkable
class OnS3Wire(Protocol):
    """A store that is in S3."""

    @property
    def wire(self) -> Wire:
        """The way to the bucket."""
        ...


class S3Hop:
    """The bucket, if images are kept in one."""

    kind: Final = "s3"

    def __init__(self, wire: Wire, settings: Settings) -> None:
        self._wire = wire
        self._public_host = urlsplit(settings.public_url).netloc

    def watch(self, sight: Sight | None) -> None:
        """Let every exchange be seen from now on; None: none."""
        if sight is None:
            self._wire.observer = None
            return
        loop = asyncio.get_running_loop()

        def seen(exchange: S3Seen) -> None:
            # From a thread of the store, where hashing hurts nobody.
            event = self._event_of(exchange, wants_heads=sight.wants_heads())
            with suppress(RuntimeError):  # the loop has ended, and this thread not yet
                loop.call_soon_threadsafe(sight.publish, event)

        self._wire.observer = seen

    def detour(self, address: Address | None) -> None:
        """Dial this plain address instead from now on; None: the endpoint again."""
        self._wire.redirect(address)

    def describe(self) -> Mapping[str, Any]:
        """Where it leads, and what a right signature is made of."""
        settings = self._wire.settings
        return {
            "url": f"{'https' if settings.ssl else 'http'}://{settings.endpoint}",
            "ca_file": str(settings.ca_file.absolute()) if settings.ca_file else "",
            "region": settings.region,
            "hosts": [settings.endpoint, settings.external_endpoint, self._public_host],
            "keys": self._wire.keys,
        }

    def _event_of(self, seen: S3Seen, *, wants_heads: bool) -> Event:
        event: Event = {
            "event": "hop",
            "time": seen.when,
            "hop": self.kind,
            "id": seen.request,
            "method": seen.method,
            "target": mask_target(seen.target),
            "status": seen.status,
            "bytes_out": seen.sent_bytes,
            "bytes_in": seen.received,
            "head_s": seen.head_s,
            "seconds": seen.seconds,
            "error": seen.error or _code_of(seen),
        }
        if seen.status in REFUSALS:
            event["why"] = self._explain(seen)
        if wants_heads:
            event["request_head"] = mask_fields(seen.sent.items())
            event["answer_head"] = mask_fields(seen.answered.items())
        return event

    def _explain(self, seen: S3Seen) -> list[str]:
        # Only here: a process whose signatures are right never needs it.
        from gateway.trace.diagnosis import explain  # noqa: PLC0415
        from gateway.trace.sigv4 import SignedRequest  # noqa: PLC0415

        request = SignedRequest(
            method=seen.method,
            target=seen.target,
            fields=tuple((name.lower(), value) for name, value in seen.sent.items()),
        )
        now = clock_of(seen.answered.get("date", ""), asked=seen.when, waited_s=seen.head_s or 0.0)
        case = Case(request=request, now=now, code=_code_of(seen))
        return [found.sentence for found in explain(case, expectation_of(self.describe()))]


def expectation_of(described: Mapping[str, Any]) -> Expectation:
    """What a right signature is made of, by the description of a hop to S3."""
    return Expectation.of(
        [(str(access), str(secret)) for access, secret in described["keys"]],
        region=str(described["region"]),
        hosts=[str(host) for host in described["hosts"]],
    )


def _code_of(seen: S3Seen) -> str:
    return "" if seen.code == _NO_CODE else seen.code
