"""Owns what holds for links and for parts that clients brought by themselves."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from minio.credentials.credentials import Credentials
from minio.signer import presign_v4

from gateway.errors import BlobMissing, LengthMismatch
from gateway.settings import S3
from gateway.store.s3_direct import check_parts, choose_parts
from gateway.store.s3_multipart import SentPart
from gateway.store.s3_presign import MOST_EXPIRE_S, Signer, signer_of
from gateway.trace.sigv4 import SignedRequest, read_claim

NOW = datetime(2013, 5, 24, tzinfo=UTC)
DIGEST = "ab" * 32


def signer(**changes: object) -> Signer:
    values: dict[str, object] = {
        "external_endpoint": "s3.example.org:9000",
        "bucket": "images",
        "region": "eu-central-1",
        "ssl": True,
    }
    return signer_of(
        S3.model_validate(values | changes), ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY")
    )


def test_a_link_is_signed_as_the_sdk_signs_it() -> None:
    query = {"partNumber": "3", "uploadId": "a b/c+d="}
    ours = urlsplit(signer().sign("PUT", "objects/a:b c", query=query, expires_s=300, now=NOW))
    asked = "partNumber=3&uploadId=a%20b%2Fc%2Bd%3D"
    theirs = presign_v4(
        method="PUT",
        url=urlsplit(f"https://s3.example.org:9000/images/objects/a%3Ab%20c?{asked}"),
        region="eu-central-1",
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"),
        date=NOW,
        expires=300,
    )
    assert dict(parse_qsl(ours.query)) == dict(parse_qsl(theirs.query))
    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)


def test_a_digest_is_signed_where_servers_look_for_it() -> None:
    url = urlsplit(signer().sign("PUT", "objects/ab", query={}, expires_s=300, now=NOW, sha256=DIGEST))
    query = dict(parse_qsl(url.query))
    assert query["X-Amz-SignedHeaders"] == "host;x-amz-content-sha256"
    assert query["X-Amz-Content-Sha256"] == DIGEST
    claim = read_claim(SignedRequest(method="PUT", target=f"{url.path}?{url.query}", fields=()))
    assert claim is not None
    assert (claim.region, claim.signed) == ("eu-central-1", ("host", "x-amz-content-sha256"))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"external_endpoint": "s3.example.org:443"}, "https://s3.example.org/images/"),
        ({"external_endpoint": "s3.example.org:80", "ssl": False}, "http://s3.example.org/images/"),
        ({"external_endpoint": "", "endpoint": "minio:9000"}, "https://minio:9000/images/"),
        ({"external_endpoint": "s3.example.org", "ssl": False}, "http://s3.example.org/images/"),
        (
            {"external_endpoint": "s3.example.org:443", "ssl": False, "external_ssl": "on"},
            "https://s3.example.org/images/",
        ),
        (
            {"external_endpoint": "", "endpoint": "minio:9000", "ssl": False, "external_ssl": "on"},
            "http://minio:9000/images/",
        ),
    ],
)
def test_links_name_the_host_as_clients_send_it(changes: dict[str, object], start: str) -> None:
    assert signer(**changes).sign("GET", "x", query={}, expires_s=1, now=NOW).startswith(start)


def test_no_link_lives_longer_than_servers_allow() -> None:
    url = signer().sign("GET", "x", query={}, expires_s=10**9, now=NOW)
    assert f"X-Amz-Expires={MOST_EXPIRE_S}&" in url


def part(number: int, size: int, etag: str = "e") -> SentPart:
    return SentPart(number=number, size=size, etag=f'"{etag}"')


def test_of_a_part_that_was_sent_twice_the_one_counts_that_the_client_knows() -> None:
    listed = [part(1, 5, "first"), part(2, 5), part(1, 5, "second")]
    assert choose_parts(listed, {1: '"first"'})[1].etag == '"first"'
    assert choose_parts(listed, {1: "second"})[1].etag == '"second"'
    assert choose_parts(listed, {})[1].etag == '"second"'
    assert list(choose_parts(reversed(listed), {})) == [1, 2]


def test_parts_that_fit_are_taken() -> None:
    check_parts({1: part(1, 5), 2: part(2, 3)}, total_size=8, part_size=5)
    check_parts({1: part(1, 8)}, total_size=8, part_size=8)


@pytest.mark.parametrize("parts", [{}, {2: part(2, 3)}, {1: part(1, 5)}])
def test_a_missing_part_is_missed(parts: dict[int, SentPart]) -> None:
    with pytest.raises(BlobMissing):
        check_parts(parts, total_size=8, part_size=5)


@pytest.mark.parametrize(
    "parts",
    [
        {1: part(1, 4), 2: part(2, 3)},
        {1: part(1, 5), 2: part(2, 4)},
        {1: part(1, 5), 2: part(2, 3), 3: part(3, 1)},
    ],
)
def test_parts_of_another_size_are_refused(parts: dict[int, SentPart]) -> None:
    with pytest.raises(LengthMismatch):
        check_parts(parts, total_size=8, part_size=5)
