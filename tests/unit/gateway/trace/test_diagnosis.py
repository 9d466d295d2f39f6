"""Owns the proof that each wrong part of a signature is named, and only that one."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from gateway.trace.case import Case, Expectation, clock_of
from gateway.trace.diagnosis import doubt, explain
from gateway.trace.sigv4 import UNSIGNED_PAYLOAD, SignedRequest
from tests.support.signing import Signer

NOW: Final = datetime(2026, 11, 24, 4, 0, 0, tzinfo=UTC)
ENDPOINT: Final = "minio:9000"
PATH: Final = "/sregistry/test/big:sha256.92278b7c"
BODY: Final = b"an image"
DIGEST: Final = hashlib.sha256(BODY).hexdigest()
EXPECTED: Final = Expectation.of(
    (("minio", "minio123"), ("old", "old123"), ("", "")),
    region="us-east-1",
    hosts=(ENDPOINT, "s3.example.org", "registry.example.org", ""),
)
RIGHT: Final = Signer(access_key="minio", secret_key="minio123", host=ENDPOINT, now=NOW)


def case_of(request: SignedRequest, body: bytes = BODY, code: str = "") -> Case:
    return Case(request=request, now=NOW, body_sha256=hashlib.sha256(body).hexdigest(), code=code)


def why(request: SignedRequest, *, body: bytes = BODY, code: str = "SignatureDoesNotMatch") -> list[str]:
    found = explain(case_of(request, body, code), EXPECTED)
    return [f"{difference.part}: {difference.sentence}" for difference in found]


def the_part(request: SignedRequest, *, body: bytes = BODY) -> str:
    """The one part that is named; any other difference would be a false accusation."""
    [found] = why(request, body=body)
    return found.partition(":")[0]


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (RIGHT.but(secret_key="minio124").header("PUT", PATH, BODY), "secret key or host"),
        (RIGHT.but(secret_key="old123").header("PUT", PATH, BODY), "secret key"),
        (RIGHT.but(secret_key="minio124").query("PUT", PATH), "secret key or host"),
        (RIGHT.but(skew=timedelta(minutes=-20)).header("PUT", PATH, BODY), "clock"),
        (RIGHT.but(skew=timedelta(minutes=20)).header("PUT", PATH, BODY), "clock"),
        (RIGHT.but(skew=timedelta(minutes=20)).query("PUT", PATH), "clock"),
        (RIGHT.but(skew=timedelta(minutes=-20)).query("PUT", PATH), "expiry"),
        (RIGHT.but(host="s3.example.org", sent_host=ENDPOINT).header("PUT", PATH, BODY), "host"),
        (RIGHT.but(host="minio", sent_host=ENDPOINT).query("PUT", PATH), "host"),
        (RIGHT.query("PUT", PATH, x_amz_content_sha256=DIGEST), "signed headers"),
        (RIGHT.header("PUT", PATH, BODY, x_amz_acl="public-read"), "signed headers"),
        (RIGHT.header("PUT", PATH, b"other bytes"), "payload hash"),
        (RIGHT.header("PUT", PATH, BODY, x_amz_content_sha256=UNSIGNED_PAYLOAD), "payload hash"),
        (RIGHT.header("PUT", PATH, payload=UNSIGNED_PAYLOAD, x_amz_content_sha256=DIGEST), "payload hash"),
        (RIGHT.but(region="eu-west-1").header("PUT", PATH, BODY), "region"),
        (RIGHT.but(region="eu-west-1").query("PUT", PATH), "region"),
        (RIGHT.but(signed_path=PATH).header("PUT", PATH, BODY), "path encoding"),
        (RIGHT.but(signed_path=PATH).query("PUT", PATH), "path encoding"),
        (RIGHT.but(access_key="nobody").header("PUT", PATH, BODY), "access key"),
        (SignedRequest(method="GET", target=PATH, fields=(("host", ENDPOINT),)), "no signature"),
    ],
)  # fmt: skip
def test_a_wrong_part_is_named_and_no_other(request_: SignedRequest, part: str) -> None:
    assert the_part(request_) == part


def test_the_mistake_of_the_seed_page_is_explained_in_a_sentence() -> None:
    """A presigned URL over UNSIGNED-PAYLOAD, and a library client that sends the digest all the same."""
    [found] = why(RIGHT.query("PUT", PATH, x_amz_content_sha256=DIGEST))
    assert "sends x-amz-content-sha256, but the URL was signed without it (SignedHeaders=host" in found
    assert UNSIGNED_PAYLOAD in found


def test_the_first_mistake_of_the_seed_page_is_an_older_signature() -> None:
    target = (
        f"{PATH}?uploadId=a&partNumber=1&Expires=1586041182&Signature=2dN0tY%2F0es%3D&AWSAccessKeyId=minio"
    )
    [found] = why(SignedRequest(method="PUT", target=target, fields=(("host", ENDPOINT),)))
    assert found.startswith("signature version: ")
    assert "s3v4" in found


def test_a_header_that_was_signed_and_lost_on_the_way_is_named() -> None:
    request = RIGHT.header("PUT", PATH, BODY)
    fields = tuple(field for field in request.fields if field[0] != "x-amz-content-sha256")
    lost = SignedRequest(method="PUT", target=request.target, fields=fields)
    assert why(lost) == ["signed headers: The header x-amz-content-sha256 is signed but not sent."]


def test_both_names_of_the_host_and_both_hashes_are_said() -> None:
    [host] = why(RIGHT.but(host="s3.example.org", sent_host=ENDPOINT).header("PUT", PATH, BODY))
    assert "signed for 's3.example.org', sent to 'minio:9000'" in host
    [payload] = why(RIGHT.header("PUT", PATH, b"other bytes"))
    assert DIGEST[:12] in payload
    [encoding] = why(RIGHT.but(signed_path=PATH).header("PUT", PATH, BODY))
    assert "with ':' unencoded" in encoding
    assert "big%3Asha256" in encoding


@pytest.mark.parametrize(
    "host",
    [
        "s3.example.org", "s3.example.org:9000", "registry.example.org", "registry.example.org:443", "minio",
        "minio:80", "localhost:9000", "127.0.0.1", "proxy.example.org", "proxy.example.org:9000",
    ],
)  # fmt: skip
def test_a_host_that_is_written_somewhere_or_usual_is_named_exactly(host: str) -> None:
    signer = RIGHT.but(host=host, sent_host=ENDPOINT)
    [found] = why(signer.header("PUT", PATH, BODY, x_forwarded_host="proxy.example.org"))
    assert found.startswith(f"host: The host differs: signed for '{host}', sent to 'minio:9000'")


def test_a_host_that_cannot_be_guessed_is_not_called_a_wrong_secret_key() -> None:
    [found] = why(RIGHT.but(host="elsewhere.example.net", sent_host=ENDPOINT).header("PUT", PATH, BODY))
    assert found.startswith("secret key or host: The secret key or the host that was signed differs: ")
    assert (
        "hosts were tried, with other ports and without: minio:9000, s3.example.org, registry.example.org;"
        in found
    )


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (RIGHT.but(region="eu-west-1").header("PUT", PATH, BODY),
         "AWS refuses it, and MinIO where a region is set: The region is signed as 'eu-west-1', the settings say 'us-east-1'."),
        (RIGHT.but(region="eu-west-1", access_key="somebody").header("PUT", PATH, BODY), "The region is signed as"),
        (RIGHT.query("PUT", PATH, x_amz_content_sha256=DIGEST), "AWS and MinIO refuse it: The client sends x-amz-content-sha256"),
        (RIGHT.header("PUT", PATH, b"other bytes"), "AWS and MinIO refuse it: x-amz-content-sha256 promises"),
        (RIGHT.header("PUT", PATH, BODY, x_amz_acl="private"), "AWS refuses it: The header x-amz-acl is sent but not signed"),
        (RIGHT.but(skew=timedelta(minutes=-20)).header("PUT", PATH, BODY), "AWS and MinIO refuse it: The clocks differ"),
        (RIGHT.but(host="s3.example.org", sent_host=ENDPOINT).header("PUT", PATH, BODY), "AWS and MinIO refuse it: The host differs"),
        (RIGHT.but(secret_key="minio124").header("PUT", PATH, BODY),
         "it does not check signatures, or has another secret key for 'minio': The secret key or the host"),
    ],
)  # fmt: skip
def test_what_a_lenient_server_let_pass_is_told_with_who_will_not(request_: SignedRequest, said: str) -> None:
    [found] = doubt(case_of(request_), EXPECTED)
    assert found.startswith("This server let it pass; ")
    assert said in found


@pytest.mark.parametrize(
    "request_",
    [
        RIGHT.header("PUT", PATH, BODY),
        RIGHT.header("PUT", PATH, payload=UNSIGNED_PAYLOAD),
        RIGHT.query("PUT", PATH),
        RIGHT.but(access_key="old", secret_key="old123").header("PUT", PATH, BODY),
        RIGHT.but(access_key="somebody", secret_key="unknown").header("PUT", PATH, BODY),
        RIGHT.but(skew=timedelta(minutes=-14)).header("PUT", PATH, BODY),
        SignedRequest(method="GET", target=PATH, fields=(("host", ENDPOINT),)),
    ],
)
def test_of_a_right_request_nothing_is_said(request_: SignedRequest) -> None:
    assert doubt(case_of(request_), EXPECTED) == ()


def test_two_wrong_parts_are_both_found() -> None:
    request = RIGHT.but(host="s3.example.org", sent_host=ENDPOINT, signed_path=PATH).header("PUT", PATH, BODY)
    assert {found.partition(":")[0] for found in why(request)} == {"host", "path encoding"}
    late = RIGHT.but(secret_key="minio124", skew=timedelta(minutes=-20)).header("PUT", PATH, BODY)
    assert [found.partition(":")[0] for found in why(late)] == ["secret key or host", "clock"]


def test_what_is_right_by_our_keys_is_the_servers_fault() -> None:
    request = RIGHT.header("PUT", PATH, BODY)
    [other_key] = why(request)
    assert other_key.startswith("secret key: The signature is right for the keys in the settings")
    [silent] = why(request, code="")
    assert silent.startswith("server: The signature is right for the keys in the settings")
    [policy] = why(request, code="AccessDenied")
    assert policy.startswith("server: ")
    [clock] = why(request, code="RequestTimeTooSkewed")
    assert clock.startswith("clock: ")


def test_no_secret_key_is_in_any_sentence() -> None:
    for request in (
        RIGHT.but(secret_key="old123").header("PUT", PATH, BODY),
        RIGHT.but(secret_key="minio124").query("PUT", PATH),
        RIGHT.header("PUT", PATH, BODY),
    ):
        assert not any(secret in found for found in why(request) for secret in ("minio123", "old123"))


def test_fourteen_minutes_are_no_skew_and_sixteen_are() -> None:
    for minutes, part in ((14, "secret key"), (16, "clock")):
        request = RIGHT.but(skew=timedelta(minutes=-minutes)).header("PUT", PATH, BODY)
        assert the_part(request) == part


def test_a_time_that_cannot_be_read_is_named() -> None:
    request = RIGHT.header("PUT", PATH, BODY, x_amz_date="yesterday")
    assert "clock: The time of signing, 'yesterday', cannot be read." in why(request)


def test_who_sends_a_request_does_not_decide_how_long_it_is_looked_at() -> None:
    many = ",".join(f"h{number}.example.org:{9000 + number}" for number in range(300))
    right = RIGHT.but(secret_key="minio124").header("PUT", PATH, BODY)
    asked = replace(right, fields=(*right.fields, ("x-forwarded-host", many)))
    began = time.process_time()
    assert the_part(asked) == "secret key or host"
    assert time.process_time() - began < 2


@pytest.mark.parametrize("date", ["", "x", "Fri, 31 Dec 9999 23:59:59 -2300"])
def test_a_date_that_no_clock_can_have_is_not_taken(date: str) -> None:
    assert clock_of(date, asked=NOW.timestamp(), waited_s=3.0) == NOW
