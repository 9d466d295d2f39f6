"""Owns AWS Signature Version 4 as a server computes it: read what a request claims, compute what it should say.

Sans-I/O and without an SDK: an explanation of what another program signed wrongly must not share its code.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
PAYLOAD_HEADER: Final = "x-amz-content-sha256"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")
_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_UNRESERVED: Final = "-._~"
_PARTS_OF_A_SCOPE: Final = 5
_PAIR: Final = re.compile(r"(Credential|SignedHeaders|Signature)\s*=\s*([^,\s]*)")

type Form = Literal["header", "query"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A request as it is on the wire: ``target`` undecoded, ``fields`` with lower-case names in their order."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The undecoded path."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The decoded parameters."""
        return split_query(self.target.partition("?")[2])

    def get(self, name: str) -> str | None:
        """All values of a field as one, or None."""
        values = [value for known, value in self.fields if known == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a request says about its own signature. ``expires_s`` is set for the query form only."""

    form: Form
    access_key: str
    day: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str
    stamp: str
    expires_s: int | None = None

    @property
    def when(self) -> datetime | None:
        """The time of signing, None if it cannot be read."""
        try:
            return datetime.strptime(self.stamp, _DATE_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            return None


def read_claim(request: SignedRequest) -> Claim | None:
    """The claim of a V4 signature in either form; None if there is none that can be read."""
    authorization = request.get("authorization") or ""
    if authorization.startswith(ALGORITHM):
        pairs = dict(_PAIR.findall(authorization))
        stamp = request.get("x-amz-date") or request.get("date") or ""
        return _claim("header", pairs, stamp, None)
    query = dict(request.query)
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        return None
    pairs = {name: query.get(f"X-Amz-{name}", "") for name in ("Credential", "SignedHeaders", "Signature")}
    expires = query.get("X-Amz-Expires", "")
    return _claim("query", pairs, query.get("X-Amz-Date", ""), int(expires) if expires.isdecimal() else None)


def _claim(form: Form, pairs: Mapping[str, str], stamp: str, expires_s: int | None) -> Claim | None:
    # An access key may itself hold slashes: the scope is counted from its end.
    scope = pairs.get("Credential", "").rsplit("/", _PARTS_OF_A_SCOPE - 1)
    if len(scope) != _PARTS_OF_A_SCOPE:
        return None
    access_key, day, region, service, _ = scope
    signed = tuple(name for name in pairs.get("SignedHeaders", "").lower().split(";") if name)
    return Claim(
        form=form,
        access_key=access_key,
        day=day,
        region=region,
        service=service,
        signed=signed,
        signature=pairs.get("Signature", ""),
        stamp=stamp,
        expires_s=expires_s,
    )


def declared_payload(request: SignedRequest) -> str:
    """What it says that its body is: a digest, a word instead of one, or "" when it says nothing."""
    return dict(request.query).get("X-Amz-Content-Sha256") or request.get(PAYLOAD_HEADER) or ""


def is_digest(payload: str) -> bool:
    """Whether a declared payload is the digest of the body, and not a word instead of it."""
    return bool(_DIGEST.fullmatch(payload))


def is_version_2(request: SignedRequest) -> bool:
    """Whether it carries the older signature, which servers of today refuse."""
    names = {name for name, _ in request.query}
    return {"AWSAccessKeyId", "Signature"} <= names or (request.get("authorization") or "").startswith("AWS ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What goes into a signature, and is not beyond doubt.

    path: canonical. host, declared: the values of Host and X-Amz-Content-Sha256, None = as sent.
    """

    secret_key: str
    region: str
    path: str
    payload: str
    host: str | None = None
    declared: str | None = None


def compute(request: SignedRequest, claim: Claim, basis: Basis) -> str:
    """The signature that a request would carry if it had been signed on this basis."""
    canonical = canonical_request(request, claim, basis)
    scope = f"{claim.day}/{basis.region}/{claim.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    text = "\n".join((ALGORITHM, claim.stamp, scope, digest))
    key = f"AWS4{basis.secret_key}".encode()
    for step in (claim.day, basis.region, claim.service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def canonical_request(request: SignedRequest, claim: Claim, basis: Basis) -> str:
    """The text whose digest is signed."""
    lines = []
    for name in sorted(claim.signed):
        other = {"host": basis.host, PAYLOAD_HEADER: basis.declared}.get(name)
        value = other if other is not None else request.get(name) or ""
        lines.append(f"{name}:{' '.join(value.split())}")
    return "\n".join(
        (
            request.method,
            basis.path,
            _canonical_query(request.query),
            *lines,
            "",
            ";".join(sorted(claim.signed)),
            basis.payload,
        )
    )


def canonical_path(path: str) -> str:
    """As S3 has it: decoded, then everything but unreserved characters and ``/`` encoded; ``:`` becomes ``%3A``."""
    return quote(unquote_to_bytes(path), safe="/" + _UNRESERVED)


def split_query(query: str) -> tuple[tuple[str, str], ...]:
    """Decoded parameters in their order; ``+`` is a plus, as S3 has it."""
    pairs = (piece.partition("=") for piece in query.split("&") if piece)
    return tuple((_decode(name), _decode(value)) for name, _, value in pairs)


def _canonical_query(pairs: tuple[tuple[str, str], ...]) -> str:
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs if name != "X-Amz-Signature")
    return "&".join(f"{name}={value}" for name, value in encoded)


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _encode(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=_UNRESERVED)
