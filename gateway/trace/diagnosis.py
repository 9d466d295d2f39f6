"""Owns the question why S3 refused a request: which part of its signature differs, said in a sentence.

What a request states openly is compared first. Then the signature is computed as the server does; if it differs, the
parts that clients get wrong are varied one by one, then by two, until a variation gives the client's signature: that
part differs.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote, unquote

from gateway.settings import S3
from gateway.trace.sigv4 import (
    EMPTY_SHA256,
    PAYLOAD_HEADER,
    UNSIGNED_PAYLOAD,
    Basis,
    Claim,
    SignedRequest,
    canonical_path,
    compute,
    is_version_2,
    read_claim,
)

SKEW_S: Final = 900  # what S3 servers allow
_STREAMING: Final = "STREAMING-"

type Part = Literal[
    "secret key",
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
    """One part that is not as it should be."""

    part: Part
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the settings say a right signature is made of. ``secrets`` maps access keys to secret keys."""

    secrets: Mapping[str, str]
    region: str
    hosts: tuple[str, ...]

    @classmethod
    def of(cls, settings: S3, *further_hosts: str) -> "Expectation":
        """From the settings of the S3 store."""
        pairs = (
            (settings.access_key, settings.secret_key),
            (settings.previous_access_key, settings.previous_secret_key),
        )
        known = {access.get_secret_value(): secret.get_secret_value() for access, secret in pairs}
        return cls(
            secrets={access: secret for access, secret in known.items() if access},
            region=settings.region,
            hosts=(settings.endpoint, settings.external_endpoint, *further_hosts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What is known of a request that S3 refused.

    now: the server's clock, by its Date field.
    body_sha256: of the bytes that were sent, "" if nobody counted.
    code: S3's word for the error, "" if it said none.
    """

    request: SignedRequest
    now: datetime
    body_sha256: str = ""
    code: str = ""


def explain(refusal: Refusal, expected: Expectation) -> tuple[Difference, ...]:
    """What differs, the decisive part first. Never empty."""
    request = refusal.request
    claim = read_claim(request)
    if claim is None:
        return (_unsigned(request),)
    open_faults = tuple(_open_faults(refusal, claim, expected))
    secret = expected.secrets.get(claim.access_key)
    if secret is None:
        sentence = f"The access key '{claim.access_key}' is not one that these settings know."
        return (Difference("access key", sentence), *open_faults)
    basis = _as_the_server_sees_it(request, claim, secret)
    if compute(request, claim, basis) == claim.signature:
        return open_faults or (_refused_although_right(refusal),)
    if any(request.get(name) is None for name in claim.signed):
        return open_faults  # with a part of it missing, nothing can be said of the key
    varied = _find_variation(refusal, claim, basis, expected)
    if varied:
        return (*varied, *(fault for fault in open_faults if fault.part not in {v.part for v in varied}))
    sentence = (
        f"The secret key differs: '{claim.access_key}' signed with another one than the settings have"
        " (no known host, path encoding, region or payload hash explains the signature)."
    )
    return (Difference("secret key", sentence), *open_faults)


def _unsigned(request: SignedRequest) -> Difference:
    if is_version_2(request):
        return Difference(
            "signature version",
            "It is signed with signature version 2 (AWSAccessKeyId), the server expects version 4 (s3v4):"
            " set the signature version where the client is made.",
        )
    return Difference(
        "no signature", "It carries no V4 signature that can be read: S3 takes it for anonymous."
    )


def _as_the_server_sees_it(request: SignedRequest, claim: Claim, secret: str) -> Basis:
    # Servers hash over the header's word when it is there, in the query form too; that it is not signed is the
    # classic mistake with presigned URLs.
    fallback = UNSIGNED_PAYLOAD if claim.form == "query" else EMPTY_SHA256
    declared = dict(request.query).get("X-Amz-Content-Sha256") or request.get(PAYLOAD_HEADER)
    return Basis(
        secret_key=secret,
        region=claim.region,
        path=canonical_path(request.path),
        payload=declared or fallback,
    )


# -- what is openly wrong


def _open_faults(refusal: Refusal, claim: Claim, expected: Expectation) -> Iterator[Difference]:
    yield from _clock_faults(refusal, claim)
    if claim.region != expected.region and expected.region:
        yield Difference(
            "region", f"It is signed for region '{claim.region}', the server's is '{expected.region}'."
        )
    yield from _header_faults(refusal.request, claim)
    declared = refusal.request.get(PAYLOAD_HEADER) or ""
    if refusal.body_sha256 and _is_hash(declared) and declared != refusal.body_sha256:
        yield Difference(
            "payload hash",
            f"{PAYLOAD_HEADER} promises {declared[:12]}…, the bytes that were sent have"
            f" {refusal.body_sha256[:12]}…: another body than the one that was signed.",
        )


def _clock_faults(refusal: Refusal, claim: Claim) -> Iterator[Difference]:
    when = claim.when
    if when is None:
        yield Difference("clock", f"The time of signing, '{claim.stamp}', cannot be read.")
        return
    late_s = (refusal.now - when).total_seconds()
    skew = (
        f"The clocks differ: it was signed at {when:%H:%M:%S}, the server has {refusal.now:%H:%M:%S} UTC,"
        f" {abs(late_s) / 60:.0f} minutes {'later' if late_s > 0 else 'earlier'}"
    )
    if claim.expires_s is not None:
        if late_s > claim.expires_s:
            yield Difference(
                "expiry",
                f"The presigned URL expired: it was good for {claim.expires_s} s from {when:%H:%M:%S} UTC,"
                f" and came {late_s - claim.expires_s:.0f} s too late.",
            )
        elif late_s < -SKEW_S:
            yield Difference("clock", f"{skew}; a presigned URL is not good before its time.")
    elif abs(late_s) > SKEW_S:
        yield Difference("clock", f"{skew}; {SKEW_S // 60} are allowed.")


def _header_faults(request: SignedRequest, claim: Claim) -> Iterator[Difference]:
    sent = {name for name, _ in request.fields}
    for name in claim.signed:
        if name not in sent:
            yield Difference("signed headers", f"The header {name} is signed but not sent.")
    if "host" not in claim.signed:
        yield Difference("signed headers", "The header host is not signed; it must be.")
    for name in sorted(sent - set(claim.signed)):
        if not name.startswith("x-amz-"):
            continue
        if name == PAYLOAD_HEADER and claim.form == "query":
            yield Difference("signed headers", _unsigned_payload_header(claim))
        else:
            yield Difference(
                "signed headers",
                f"The header {name} is sent but not signed (SignedHeaders={';'.join(claim.signed)}).",
            )


def _unsigned_payload_header(claim: Claim) -> str:
    return (
        f"The client sends {PAYLOAD_HEADER}, but the URL was signed without it"
        f" (SignedHeaders={';'.join(claim.signed)}, so over {UNSIGNED_PAYLOAD}): sign that header when the URL"
        " is made, with the digest the client will send."
    )


def _refused_although_right(refusal: Refusal) -> Difference:
    said = f" ({refusal.code})" if refusal.code else ""
    if refusal.code in {"SignatureDoesNotMatch", "InvalidAccessKeyId"}:
        return Difference(
            "secret key",
            f"The signature is right for the keys in the settings, and the server refuses it{said}:"
            " it knows another secret key, or does not know this access key.",
        )
    if refusal.code == "RequestTimeTooSkewed":
        return Difference("clock", f"The signature is right; the server's clock differs from ours{said}.")
    if not refusal.code:
        return Difference(
            "server",
            "The signature is right for the keys in the settings; the server refuses without a reason:"
            " it knows another secret key, or forbids this.",
        )
    return Difference("server", f"The signature is right; the server refuses for a reason of its own{said}.")


# -- what explains another signature


@dataclass(frozen=True, slots=True)
class _Variation:
    difference: Difference
    changes: Mapping[str, str]


def _find_variation(
    refusal: Refusal, claim: Claim, basis: Basis, expected: Expectation
) -> tuple[Difference, ...]:
    """The fewest changes of what was signed that give the client's signature; () if none do."""
    variations = tuple(_variations(refusal, claim, basis, expected))
    for count in (1, 2):
        for chosen in itertools.combinations(variations, count):
            changes: dict[str, str] = {}
            for variation in chosen:
                changes |= variation.changes
            is_real = len({variation.difference.part for variation in chosen}) == count
            if is_real and compute(refusal.request, claim, replace(basis, **changes)) == claim.signature:
                return tuple(variation.difference for variation in chosen)
    return ()


def _variations(refusal: Refusal, claim: Claim, basis: Basis, expected: Expectation) -> Iterator[_Variation]:
    yield from _other_payloads(refusal, claim, basis)
    yield from _other_hosts(refusal.request, expected)
    yield from _other_paths(refusal.request, basis)
    for region in dict.fromkeys((expected.region, "us-east-1", "")):
        if region != basis.region:
            sentence = f"The scope says region '{basis.region}', the signing key was made for '{region}'."
            yield _Variation(Difference("region", sentence), {"region": region})
    for access, secret in expected.secrets.items():
        if secret != basis.secret_key:
            sentence = f"The secret key differs: '{claim.access_key}' signed with the secret of '{access}'."
            yield _Variation(Difference("secret key", sentence), {"secret_key": secret})


def _other_payloads(refusal: Refusal, claim: Claim, basis: Basis) -> Iterator[_Variation]:
    declared = refusal.request.get(PAYLOAD_HEADER) or ""
    candidates = (UNSIGNED_PAYLOAD, declared, refusal.body_sha256, EMPTY_SHA256)
    for payload in dict.fromkeys(candidates):
        if not payload or payload == basis.payload:
            continue
        if claim.form == "query" and declared and PAYLOAD_HEADER not in claim.signed:
            difference = Difference("signed headers", _unsigned_payload_header(claim))
        else:
            sentence = (
                f"The payload hash differs: signed over {_short(payload)}, sent as {_short(basis.payload)}."
            )
            difference = Difference("payload hash", sentence)
        yield _Variation(difference, {"payload": payload})
        if PAYLOAD_HEADER in claim.signed:
            yield _Variation(difference, {"payload": payload, "declared": payload})


def _other_hosts(request: SignedRequest, expected: Expectation) -> Iterator[_Variation]:
    sent = request.get("host") or ""
    names: list[str] = []
    for host in (*expected.hosts, request.get("x-forwarded-host") or "", sent):
        bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        names += (host, bare, f"{bare}:80", f"{bare}:443")
    for host in dict.fromkeys(names):
        if host and host != sent:
            sentence = (
                f"The host differs: signed for '{host}', sent to '{sent}';"
                " a proxy changed Host, or the URL was made for another name of the server."
            )
            yield _Variation(Difference("host", sentence), {"host": host})


def _other_paths(request: SignedRequest, basis: Basis) -> Iterator[_Variation]:
    raw, plain = request.path, unquote(request.path)
    ways = {
        "with ':' unencoded": quote(plain, safe="/:-._~"),
        "as it was sent, not in the canonical encoding": raw,
        "without any encoding": plain,
        "encoded twice": quote(basis.path, safe="/-._~"),
        "with '/' encoded too": "/" + quote(plain.removeprefix("/"), safe="-._~"),
        "with '+' for a space": basis.path.replace("%20", "+"),
    }
    seen = {basis.path}
    for how, path in ways.items():
        if path in seen:
            continue
        seen.add(path)
        sentence = f"The path was signed {how}; the canonical path is {basis.path} (':' is %3A there)."
        yield _Variation(Difference("path encoding", sentence), {"path": path})


def _is_hash(payload: str) -> bool:
    return bool(payload) and payload != UNSIGNED_PAYLOAD and not payload.startswith(_STREAMING)


def _short(payload: str) -> str:
    if not _is_hash(payload):
        return payload
    return "the hash of nothing" if payload == EMPTY_SHA256 else f"{payload[:12]}…"
