"""Owns the proof that wrong signatures are explained as they pass mitmproxy on their way to a real S3 server."""

import asyncio
import hashlib
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest

from gateway.trace.case import Expectation
from gateway.trace.inspector import Inspector, Upstream
from gateway.trace.recorder import Recorder
from gateway.trace.sigv4 import UNSIGNED_PAYLOAD, SignedRequest
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, running_seaweed
from tests.support.signing import Signer

KEY: Final = "/images/test/big:sha256.92278b7c"
BODY: Final = b"the bytes of an image" * 1000
OTHER_NAME: Final = "s3.example.org:9000"


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        right = Signer(access_key=ACCESS_KEY, secret_key=SECRET_KEY, host=server.endpoint)
        assert send(server.endpoint, right.header("PUT", "/images"), b"") == 200
        yield server


def send(address: str, request: SignedRequest, body: bytes) -> int:
    """Exactly as signed; the status."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.fields:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def inspected(endpoint: str, request: SignedRequest, body: bytes = BODY) -> tuple[int, dict[str, Any]]:
    """The status that the server gave, and what trace says of it."""
    events: list[dict[str, Any]] = []

    async def pass_through() -> int:
        inspector = Inspector((Upstream(kind="s3", url=f"http://{endpoint}"),))
        expected = Expectation.of(
            ((ACCESS_KEY, SECRET_KEY),), region="us-east-1", hosts=(endpoint, OTHER_NAME)
        )
        inspector.addons = (Recorder(events.append, kind_of=inspector.kind_of, expected=expected),)
        async with inspector:
            return await asyncio.to_thread(send, inspector.addresses["s3"], request, body)

    status = asyncio.run(pass_through())
    [event] = events
    assert event["status"] == status
    return status, event


@pytest.fixture
def right(seaweed: Seaweed) -> Signer:
    return Signer(access_key=ACCESS_KEY, secret_key=SECRET_KEY, host=seaweed.endpoint)


def test_a_right_signature_passes_and_nothing_is_said_of_it(seaweed: Seaweed, right: Signer) -> None:
    status, event = inspected(seaweed.endpoint, right.header("PUT", KEY, BODY))
    assert status == 200
    assert "why" not in event
    assert event["bytes_out"] == len(BODY)
    status, event = inspected(seaweed.endpoint, right.query("GET", KEY), b"")
    assert (status, event["bytes_in"]) == (200, len(BODY))


def test_a_wrong_secret_is_named(seaweed: Seaweed, right: Signer) -> None:
    status, event = inspected(seaweed.endpoint, right.but(secret_key="not it").header("PUT", KEY, BODY))
    assert (status, event["error"]) == (403, "SignatureDoesNotMatch")
    assert event["why"] == [
        f"The secret key or the host that was signed differs: the secret of '{ACCESS_KEY}' in the settings does not"
        f" give this signature. These hosts were tried, with other ports and without: {seaweed.endpoint},"
        f" {OTHER_NAME}; and other path encodings, regions and payload hashes."
    ]


def test_a_clock_that_is_twenty_minutes_off_is_named(seaweed: Seaweed, right: Signer) -> None:
    for minutes, word in ((-20, "later"), (20, "earlier")):
        request = right.but(skew=timedelta(minutes=minutes)).header("PUT", KEY, BODY)
        status, event = inspected(seaweed.endpoint, request)
        assert (status, event["error"]) == (403, "RequestTimeTooSkewed")
        [why] = event["why"]
        assert why.startswith("The clocks differ: it was signed at ")
        assert f"20 minutes {word}; 15 are allowed." in why


def test_a_wrong_host_is_named(seaweed: Seaweed, right: Signer) -> None:
    request = right.but(host=OTHER_NAME, sent_host=seaweed.endpoint).header("PUT", KEY, BODY)
    status, event = inspected(seaweed.endpoint, request)
    assert (status, event["error"]) == (403, "SignatureDoesNotMatch")
    [why] = event["why"]
    assert why.startswith(f"The host differs: signed for '{OTHER_NAME}', sent to '{seaweed.endpoint}'")


def test_another_payload_hash_than_the_signed_one_is_named(seaweed: Seaweed, right: Signer) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    request = right.header("PUT", KEY, payload=UNSIGNED_PAYLOAD, x_amz_content_sha256=digest)
    status, event = inspected(seaweed.endpoint, request)
    assert (status, event["error"]) == (403, "SignatureDoesNotMatch")
    assert event["why"] == [
        f"The payload hash differs: signed over UNSIGNED-PAYLOAD, sent as {digest[:12]}…."
    ]


def test_a_host_that_nobody_can_guess_is_not_called_a_wrong_secret(seaweed: Seaweed, right: Signer) -> None:
    request = right.but(host="elsewhere.example.net:9000", sent_host=seaweed.endpoint).header(
        "PUT", KEY, BODY
    )
    status, event = inspected(seaweed.endpoint, request)
    assert (status, event["error"]) == (403, "SignatureDoesNotMatch")
    assert event["why"][0].startswith("The secret key or the host that was signed differs: ")


# SeaweedFS is lenient where MinIO and AWS refuse: it takes these three, and trace says so.

WRONG_REGION: Final = "The region is signed as 'eu-west-1', the settings say 'us-east-1'."


def test_a_wrong_region_that_passes_is_named(seaweed: Seaweed, right: Signer) -> None:
    status, event = inspected(seaweed.endpoint, right.but(region="eu-west-1").header("PUT", KEY, BODY))
    assert status == 200
    assert event["why"] == [
        f"This server let it pass; AWS refuses it, and MinIO where a region is set: {WRONG_REGION}"
    ]


def test_an_unsigned_header_that_passes_is_named(seaweed: Seaweed, right: Signer) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    status, event = inspected(seaweed.endpoint, right.query("PUT", KEY, x_amz_content_sha256=digest))
    assert status == 200
    [why] = event["why"]
    assert why.startswith(
        "This server let it pass; AWS and MinIO refuse it: The client sends x-amz-content-sha256, but the URL was"
        " signed without it"
    )


def test_other_bytes_than_the_signed_ones_that_pass_are_named(seaweed: Seaweed, right: Signer) -> None:
    other = b"the bytes that were signed"
    status, event = inspected(seaweed.endpoint, right.header("PUT", KEY, other))
    assert status == 200
    assert event["why"] == [
        "This server let it pass; AWS and MinIO refuse it: x-amz-content-sha256 promises"
        f" {hashlib.sha256(other).hexdigest()[:12]}…, the bytes that were sent have"
        f" {hashlib.sha256(BODY).hexdigest()[:12]}…: another body than the one that was signed."
    ]


# What MinIO and AWS say of them is in their documentation.


@contextmanager
def refusing(status: int, code: str) -> Iterator[str]:
    """A server that refuses everything in S3's words; its address."""

    class Refuse(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def client_of(address: str) -> Signer:
    return Signer(access_key=ACCESS_KEY, secret_key=SECRET_KEY, host=address)


def test_an_unsigned_header_is_named() -> None:
    """The bug of the seed page: the digest is sent, the URL was signed without it."""
    digest = hashlib.sha256(BODY).hexdigest()
    with refusing(403, "SignatureDoesNotMatch") as address:
        request = client_of(address).query("PUT", KEY, x_amz_content_sha256=digest)
        _, event = inspected(address, request)
    assert event["error"] == "SignatureDoesNotMatch"
    [why] = event["why"]
    assert "sends x-amz-content-sha256, but the URL was signed without it (SignedHeaders=host" in why


def test_other_bytes_than_the_signed_ones_are_named() -> None:
    with refusing(400, "XAmzContentSHA256Mismatch") as address:
        _, event = inspected(address, client_of(address).header("PUT", KEY, b"the bytes that were signed"))
    assert event["error"] == "XAmzContentSHA256Mismatch"
    [why] = event["why"]
    assert f"the bytes that were sent have {hashlib.sha256(BODY).hexdigest()[:12]}" in why


def test_a_wrong_region_is_named() -> None:
    with refusing(400, "AuthorizationHeaderMalformed") as address:
        _, event = inspected(address, client_of(address).but(region="eu-west-1").header("PUT", KEY, BODY))
    assert event["why"] == [WRONG_REGION]


def test_an_unencoded_colon_and_an_unknown_key_are_named(seaweed: Seaweed, right: Signer) -> None:
    status, event = inspected(seaweed.endpoint, right.but(signed_path=KEY).header("PUT", KEY, BODY))
    assert (status, event["error"]) == (403, "SignatureDoesNotMatch")
    assert event["why"][0].startswith("The path was signed with ':' unencoded; the canonical path is ")
    status, event = inspected(seaweed.endpoint, right.but(access_key="nobody").header("PUT", KEY, BODY))
    assert (status, event["error"]) == (403, "InvalidAccessKeyId")
    assert event["why"] == ["The access key 'nobody' is not one that these settings know."]


def test_nothing_that_gives_access_is_in_an_event(seaweed: Seaweed, right: Signer) -> None:
    request = right.query("GET", KEY)
    _, event = inspected(seaweed.endpoint, request, b"")
    signature = dict(request.query)["X-Amz-Signature"]
    assert signature not in str(event)
    assert ACCESS_KEY not in str(event)
    assert "X-Amz-Signature=***" in event["target"]
