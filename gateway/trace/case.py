"""Owns what is known of a signed request to S3, what a right one is made of, and what a difference is called."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from gateway.trace.sigv4 import SignedRequest

# What S3 says when it does not believe a signature, or the clock; MinIO and Ceph say 400 for some of these.
REFUSALS: Final = frozenset((400, 401, 403))
# What it says when it does; beyond, it may not have looked.
_LET_PASS: Final = range(200, 500)

type Part = Literal[
    "secret key",
    "secret key or host",
    "access key",
    "clock",
    "expiry",
    "host",
    "signed headers",
    "payload hash",
    "region",
    "path encoding",
    "signature version",
    "no signature",
    "server",
]


@dataclass(frozen=True, slots=True)
class Difference:
    """One part that is not as it should be. ``strict`` says who refuses it, where this server let it pass."""

    part: Part
    sentence: str
    strict: str = field(default="AWS and MinIO refuse it", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a right signature is made of. ``secrets``: by access key; ``hosts``: names of the server."""

    secrets: Mapping[str, str]
    region: str
    hosts: tuple[str, ...]

    @classmethod
    def of(cls, keys: Iterable[tuple[str, str]], *, region: str, hosts: Iterable[str]) -> "Expectation":
        """``keys`` are pairs of access key and secret key. Without those and hosts that are empty."""
        return cls(
            secrets={access: secret for access, secret in keys if access},
            region=region,
            hosts=tuple(dict.fromkeys(host for host in hosts if host)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known of a request, and of how the server took it.

    now: the server's clock when the request came.
    body_sha256: of the bytes that were sent, "" if nobody counted.
    code: S3's word for an error, "" if it said none.
    """

    request: SignedRequest
    now: datetime
    body_sha256: str = ""
    code: str = ""


def let_pass(status: int) -> bool:
    """Whether an answer shows that the server found nothing wrong with the signature."""
    return status in _LET_PASS and status not in REFUSALS


def clock_of(date: str, *, asked: float, waited_s: float) -> datetime:
    """The server's time when a request came: by the Date of its answer, begun ``waited_s`` later; or else ours.

    A large body may take hours, and its signature is made before the first byte.
    """
    try:
        # Whole seconds, for Date has no others.
        return parsedate_to_datetime(date).astimezone(UTC) - timedelta(seconds=int(waited_s))
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(asked, UTC)
