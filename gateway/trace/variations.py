"""Owns what explains another signature than the right one: the parts that clients get wrong, varied one by one.

Then by two, until a variation gives the client's signature: that part differs.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote

from gateway.trace.case import Case, Difference, Expectation
from gateway.trace.sigv4 import (
    EMPTY_SHA256,
    PAYLOAD_HEADER,
    UNSIGNED_PAYLOAD,
    Basis,
    Claim,
    SignedRequest,
    compute,
    is_digest,
)

# What a server of one's own is called by who runs it, and by who asks it on the same machine.
_USUAL_NAMES: Final = ("minio", "localhost", "127.0.0.1")
# Of the names that a request says, so many are tried: whoever sends it must not decide how long that takes.
_MOST_NAMES: Final = 8
_USUAL_PORTS: Final = ("", "80", "443", "9000")


@dataclass(frozen=True, slots=True)
class _Variation:
    difference: Difference
    changes: Mapping[str, str]


def find_variation(case: Case, claim: Claim, basis: Basis, expected: Expectation) -> tuple[Difference, ...]:
    """The fewest changes of what was signed that give the client's signature; () if none do."""
    variations = tuple(_variations(case, claim, basis, expected))
    for count in (1, 2):
        for chosen in itertools.combinations(variations, count):
            changes: dict[str, str] = {}
            for variation in chosen:
                changes |= variation.changes
            is_real = len({variation.difference.part for variation in chosen}) == count
            if is_real and compute(case.request, claim, replace(basis, **changes)) == claim.signature:
                return tuple(variation.difference for variation in chosen)
    return ()


def known_hosts(request: SignedRequest, expected: Expectation) -> tuple[str, ...]:
    """The names of the server that are written anywhere, in the settings or in the request."""
    said = (request.get("host"), request.get("x-forwarded-host"))
    names = [name.strip() for value in said for name in (value or "").split(",", _MOST_NAMES)[:_MOST_NAMES]]
    return tuple(dict.fromkeys((*expected.hosts, *(name for name in names if name))))


def unsigned_payload_header(claim: Claim) -> str:
    """The classic mistake with presigned URLs."""
    return (
        f"The client sends {PAYLOAD_HEADER}, but the URL was signed without it"
        f" (SignedHeaders={';'.join(claim.signed)}, so over {UNSIGNED_PAYLOAD}): sign that header when the URL"
        " is made, with the digest the client will send."
    )


def _variations(case: Case, claim: Claim, basis: Basis, expected: Expectation) -> Iterator[_Variation]:
    yield from _other_payloads(case, claim, basis)
    yield from _other_hosts(case.request, expected)
    yield from _other_paths(case.request, basis)
    for region in dict.fromkeys((expected.region, "us-east-1", "")):
        if region != basis.region:
            sentence = f"The scope says region '{basis.region}', the signing key was made for '{region}'."
            yield _Variation(Difference("region", sentence), {"region": region})
    for access, secret in expected.secrets.items():
        if secret != basis.secret_key:
            sentence = f"The secret key differs: '{claim.access_key}' signed with the secret of '{access}'."
            yield _Variation(Difference("secret key", sentence), {"secret_key": secret})


def _other_payloads(case: Case, claim: Claim, basis: Basis) -> Iterator[_Variation]:
    declared = case.request.get(PAYLOAD_HEADER) or ""
    candidates = (UNSIGNED_PAYLOAD, declared, case.body_sha256, EMPTY_SHA256)
    for payload in dict.fromkeys(candidates):
        if not payload or payload == basis.payload:
            continue
        if claim.form == "query" and declared and PAYLOAD_HEADER not in claim.signed:
            difference = Difference("signed headers", unsigned_payload_header(claim))
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
    split = [_split(host) for host in known_hosts(request, expected)]
    names = dict.fromkeys((*(name for name, _ in split), *_USUAL_NAMES))
    ports = dict.fromkeys((*(port for _, port in split), *_USUAL_PORTS))
    # What is written somewhere comes before what is only guessed.
    guessed = (f"{name}:{port}" if port else name for name in names for port in ports)
    for host in dict.fromkeys((*known_hosts(request, expected), *guessed)):
        if host != sent:
            sentence = (
                f"The host differs: signed for '{host}', sent to '{sent}';"
                " a proxy changed Host, or the URL was made for another name of the server."
            )
            yield _Variation(Difference("host", sentence), {"host": host})


def _split(host: str) -> tuple[str, str]:
    name, _, port = host.rpartition(":")
    return (name, port) if name and port.isdecimal() else (host, "")


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


def _short(payload: str) -> str:
    if not is_digest(payload):
        return payload
    return "the hash of nothing" if payload == EMPTY_SHA256 else f"{payload[:12]}…"
