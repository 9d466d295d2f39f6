"""Owns the question what is wrong with a signed request to S3, said in sentences.

What a request states openly is compared first. Then the signature is computed as the server does. Servers differ in
what they check: what one lets pass is told too, for another one will not.
"""

from collections.abc import Iterator
from typing import Final

from gateway.trace.case import Case, Difference, Expectation
from gateway.trace.sigv4 import (
    EMPTY_SHA256,
    PAYLOAD_HEADER,
    UNSIGNED_PAYLOAD,
    Basis,
    Claim,
    SignedRequest,
    canonical_path,
    compute,
    declared_payload,
    is_digest,
    is_version_2,
    read_claim,
)
from gateway.trace.variations import find_variation, known_hosts, unsigned_payload_header

SKEW_S: Final = 900  # what S3 servers allow
_AWS_ONLY: Final = "AWS refuses it"


def explain(case: Case, expected: Expectation) -> tuple[Difference, ...]:
    """What differs in a request that was refused, the decisive part first. Never empty."""
    claim = read_claim(case.request)
    if claim is None:
        return (_unsigned(case.request),)
    found = _differences(case, claim, expected)
    if claim.access_key not in expected.secrets:
        sentence = f"The access key '{claim.access_key}' is not one that these settings know."
        return (Difference("access key", sentence), *found)
    return found or (_refused_although_right(case),)


def doubt(case: Case, expected: Expectation) -> tuple[str, ...]:
    """What is wrong with a request that this server let pass; () if nothing is, or nothing can be said of it."""
    claim = read_claim(case.request)
    if claim is None:
        return ()
    found = _differences(case, claim, expected)
    return tuple(f"This server let it pass; {fault.strict}: {fault.sentence}" for fault in found)


def _differences(case: Case, claim: Claim, expected: Expectation) -> tuple[Difference, ...]:
    """What is openly wrong, and what makes the signature another one than ours."""
    request = case.request
    open_faults = tuple(_open_faults(case, claim, expected))
    secret = expected.secrets.get(claim.access_key)
    if secret is None or any(request.get(name) is None for name in claim.signed):
        return open_faults  # without the key or with a part missing, nothing can be said of the signature
    basis = _as_the_server_sees_it(request, claim, secret)
    if compute(request, claim, basis) == claim.signature:
        return open_faults
    varied = find_variation(case, claim, basis, expected) or (_unexplained(request, claim, expected),)
    return (*varied, *(fault for fault in open_faults if fault.part not in {found.part for found in varied}))


def _unexplained(request: SignedRequest, claim: Claim, expected: Expectation) -> Difference:
    # A signature tells nothing of what went into it: another key and a host we cannot think of look the same.
    hosts = ", ".join(known_hosts(request, expected))
    return Difference(
        "secret key or host",
        f"The secret key or the host that was signed differs: the secret of '{claim.access_key}' in the settings"
        f" does not give this signature. These hosts were tried, with other ports and without: {hosts};"
        " and other path encodings, regions and payload hashes.",
        strict=f"it does not check signatures, or has another secret key for '{claim.access_key}'",
    )


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
    return Basis(
        secret_key=secret,
        region=claim.region,
        path=canonical_path(request.path),
        payload=declared_payload(request) or fallback,
    )


# -- what is openly wrong


def _open_faults(case: Case, claim: Claim, expected: Expectation) -> Iterator[Difference]:
    yield from _clock_faults(case, claim)
    if claim.region != expected.region and expected.region:
        yield Difference(
            "region",
            f"The region is signed as '{claim.region}', the settings say '{expected.region}'.",
            strict=f"{_AWS_ONLY}, and MinIO where a region is set",
        )
    yield from _header_faults(case.request, claim)
    declared = declared_payload(case.request)
    if case.body_sha256 and is_digest(declared) and declared.lower() != case.body_sha256:
        yield Difference(
            "payload hash",
            f"{PAYLOAD_HEADER} promises {declared[:12]}…, the bytes that were sent have"
            f" {case.body_sha256[:12]}…: another body than the one that was signed.",
        )


def _clock_faults(case: Case, claim: Claim) -> Iterator[Difference]:
    when = claim.when
    if when is None:
        yield Difference("clock", f"The time of signing, '{claim.stamp}', cannot be read.")
        return
    late_s = (case.now - when).total_seconds()
    skew = (
        f"The clocks differ: it was signed at {when:%H:%M:%S}, the server has {case.now:%H:%M:%S} UTC,"
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
            yield Difference("signed headers", unsigned_payload_header(claim))
        else:
            yield Difference(
                "signed headers",
                f"The header {name} is sent but not signed (SignedHeaders={';'.join(claim.signed)}).",
                strict=_AWS_ONLY,
            )


def _refused_although_right(case: Case) -> Difference:
    said = f" ({case.code})" if case.code else ""
    if case.code in {"SignatureDoesNotMatch", "InvalidAccessKeyId"}:
        return Difference(
            "secret key",
            f"The signature is right for the keys in the settings, and the server refuses it{said}:"
            " it knows another secret key, or does not know this access key.",
        )
    if case.code == "RequestTimeTooSkewed":
        return Difference("clock", f"The signature is right; the server's clock differs from ours{said}.")
    if not case.code:
        return Difference(
            "server",
            "The signature is right for the keys in the settings; the server refuses without a reason:"
            " it knows another secret key, or forbids this.",
        )
    return Difference("server", f"The signature is right; the server refuses for a reason of its own{said}.")
