"""Owns the gateway's upstreams as trace sees them: how each is watched, and led through a proxy."""

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, runtime_checkable

from gateway.forward.origin import Origin
from gateway.forward.pool import UpstreamPool
from gateway.log import mask_target
from gateway.settings import Settings
from gateway.store.s3_tap import S3Observer, S3Seen
from gateway.trace.masking import mask_fields
from gateway.trace.observers import Event, HopObserver, Sight

# What S3 says when it does not believe a signature, or the clock; MinIO and Ceph say 400 for some of these.
REFUSALS: Final = frozenset((400, 401, 403))
_NO_CODE: Final = "Unknown"  # the answer to HEAD has no body that says one


class PoolHop:
    """The core, or a route's backend."""

    def __init__(self, kind: str, pool: UpstreamPool) -> None:
        self.kind = kind
        self._pool = pool

    def watch(self, sight: Sight | None) -> None:
        """Let every exchange be seen from now on; None: none."""
        self._pool.observer = None if sight is None else HopObserver(self.kind, sight)

    def detour(self, origin: Origin | None) -> None:
        """Dial this address instead from now on; None: the own one again."""
        self._pool.redirect(origin)


class Wire(Protocol):
    """The part of ``store.s3.S3Wire`` that is needed here."""

    observer: S3Observer | None

    def redirect(self, address: tuple[str, int] | None) -> None:
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
        self._settings = settings

    def watch(self, sight: Sight | None) -> None:
        """Let every exchange be seen from now on; None: none."""
        if sight is None:
            self._wire.observer = None
            return
        loop = asyncio.get_running_loop()

        def seen(exchange: S3Seen) -> None:
            # From a thread of the store, where hashing hurts nobody.
            loop.call_soon_threadsafe(
                sight.publish, self._event_of(exchange, wants_heads=sight.wants_heads())
            )

        self._wire.observer = seen

    def detour(self, origin: Origin | None) -> None:
        """Dial this address instead from now on; None: the endpoint again."""
        self._wire.redirect(None if origin is None else (origin.host, origin.port))

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
        # Only here: a gateway whose signatures are right never needs it.
        from gateway.trace.diagnosis import Expectation, Refusal, explain  # noqa: PLC0415
        from gateway.trace.sigv4 import SignedRequest  # noqa: PLC0415

        request = SignedRequest(
            method=seen.method,
            target=seen.target,
            fields=tuple((name.lower(), value) for name, value in seen.sent.items()),
        )
        refusal = Refusal(request=request, now=clock_of(seen.answered.get("date", "")), code=_code_of(seen))
        return [found.sentence for found in explain(refusal, Expectation.of(self._settings.storage.s3))]


def _code_of(seen: S3Seen) -> str:
    return "" if seen.code == _NO_CODE else seen.code


def clock_of(date: str) -> datetime:
    """The server's time by the Date field of its answer, or else ours."""
    try:
        return parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
