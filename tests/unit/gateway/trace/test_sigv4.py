"""Owns the proof of the signature: the vectors of AWS's documentation, and agreement with the SDK that we sign with."""

from datetime import UTC, datetime
from typing import Final
from urllib.parse import SplitResult, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minio.credentials.credentials import Credentials
from minio.signer import presign_v4, sign_v4_s3

from gateway.trace.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Basis,
    SignedRequest,
    canonical_path,
    compute,
    is_version_2,
    read_claim,
)

# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, …/sigv4-query-string-auth.html
AWS_KEY: Final = "AKIAIOSFODNN7EXAMPLE"
AWS_SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AWS_HOST: Final = "examplebucket.s3.amazonaws.com"
AWS_STAMP: Final = "20130524T000000Z"
WELCOME_SHA256: Final = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


def authorization(signed: str, signature: str) -> tuple[str, str]:
    credential = f"{AWS_KEY}/20130524/us-east-1/s3/aws4_request"
    return (
        "authorization",
        f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={signed},Signature={signature}",
    )


GET_OBJECT: Final = SignedRequest(
    method="GET",
    target="/test.txt",
    fields=(
        ("host", AWS_HOST),
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", AWS_STAMP),
        authorization(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    ),
)
PUT_OBJECT: Final = SignedRequest(
    method="PUT",
    target="/test%24file.text",
    fields=(
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("host", AWS_HOST),
        ("x-amz-content-sha256", WELCOME_SHA256),
        ("x-amz-date", AWS_STAMP),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        authorization(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    ),
)
LIFECYCLE: Final = SignedRequest(
    method="GET",
    target="/?lifecycle",
    fields=(
        ("host", AWS_HOST),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", AWS_STAMP),
        authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
    ),
)
LIST_OBJECTS: Final = SignedRequest(
    method="GET",
    target="/?max-keys=2&prefix=J",
    fields=(
        ("host", AWS_HOST),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", AWS_STAMP),
        authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ),
)
PRESIGNED: Final = SignedRequest(
    method="GET",
    target="/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential={AWS_KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date={AWS_STAMP}"
    "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    fields=(("host", AWS_HOST),),
)


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (GET_OBJECT, EMPTY_SHA256),
        (PUT_OBJECT, WELCOME_SHA256),
        (LIFECYCLE, EMPTY_SHA256),
        (LIST_OBJECTS, EMPTY_SHA256),
        (PRESIGNED, UNSIGNED_PAYLOAD),
    ],
    ids=["get", "put", "lifecycle", "list", "presigned"],
)
def test_the_examples_of_the_documentation_come_out(request_: SignedRequest, payload: str) -> None:
    claim = read_claim(request_)
    assert claim is not None
    basis = Basis(
        secret_key=AWS_SECRET, region="us-east-1", path=canonical_path(request_.path), payload=payload
    )
    assert compute(request_, claim, basis) == claim.signature


def test_a_claim_is_read_in_full() -> None:
    claim = read_claim(PRESIGNED)
    assert claim is not None
    assert (claim.form, claim.access_key, claim.region, claim.expires_s) == (
        "query",
        AWS_KEY,
        "us-east-1",
        86400,
    )
    assert claim.when == datetime(2013, 5, 24, tzinfo=UTC)
    assert claim.signed == ("host",)


TEXT: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(path=TEXT, query=st.dictionaries(TEXT, TEXT, max_size=3), secret=st.text("abcXYZ019/+", min_size=1))
def test_header_signatures_agree_with_the_sdk(path: str, query: dict[str, str], secret: str) -> None:
    quoted = "/" + quote(path, safe="/-._~")
    search = "&".join(
        f"{quote(name, safe='-._~')}={quote(text, safe='-._~')}" for name, text in query.items()
    )
    now = datetime(2026, 11, 24, 4, 0, 0, tzinfo=UTC)
    headers: dict[str, str | list[str] | tuple[str]] = {
        "Host": "s3.example:9000",
        "x-amz-date": "20261124T040000Z",
        "x-amz-content-sha256": UNSIGNED_PAYLOAD,
    }
    signed = sign_v4_s3(
        method="PUT",
        url=SplitResult("http", "s3.example:9000", quoted, search, ""),
        region="eu-west-1",
        headers=headers,
        credentials=Credentials("key", secret),
        content_sha256=UNSIGNED_PAYLOAD,
        date=now,
    )
    request = SignedRequest(
        method="PUT",
        target=f"{quoted}?{search}",
        fields=tuple((name.lower(), str(value)) for name, value in signed.items()),
    )
    claim = read_claim(request)
    assert claim is not None
    basis = Basis(
        secret_key=secret, region="eu-west-1", path=canonical_path(quoted), payload=UNSIGNED_PAYLOAD
    )
    assert compute(request, claim, basis) == claim.signature


@given(path=TEXT, secret=st.text("abcXYZ019/+", min_size=1))
def test_presigned_signatures_agree_with_the_sdk(path: str, secret: str) -> None:
    quoted = "/" + quote(path, safe="/-._~")
    url = presign_v4(
        method="PUT",
        url=SplitResult("http", "s3.example:9000", quoted, "partNumber=1&uploadId=a%2Fb", ""),
        region="us-east-1",
        credentials=Credentials("key/with/slashes", secret),
        date=datetime(2026, 11, 24, 4, 0, 0, tzinfo=UTC),
        expires=300,
    )
    request = SignedRequest(
        method="PUT", target=f"{url.path}?{url.query}", fields=(("host", "s3.example:9000"),)
    )
    claim = read_claim(request)
    assert claim is not None
    assert claim.access_key == "key/with/slashes"
    basis = Basis(
        secret_key=secret, region="us-east-1", path=canonical_path(quoted), payload=UNSIGNED_PAYLOAD
    )
    assert compute(request, claim, basis) == claim.signature


def test_a_colon_is_encoded_in_the_canonical_path() -> None:
    assert canonical_path("/b/test/big:sha256.ab") == "/b/test/big%3Asha256.ab"
    assert canonical_path("/b/test/big%3asha256.ab") == "/b/test/big%3Asha256.ab"


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/b/k", ()),
        ("/b/k", (("authorization", "Bearer abc"),)),
        ("/b/k", (("authorization", "AWS4-HMAC-SHA256 Credential=short"),)),
        ("/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", ()),
    ],
)
def test_what_is_no_v4_signature_is_not_taken_for_one(
    target: str, fields: tuple[tuple[str, str], ...]
) -> None:
    assert read_claim(SignedRequest(method="GET", target=target, fields=fields)) is None


def test_version_2_is_known_by_its_parameters_and_by_its_header() -> None:
    seed = "/b/k?uploadId=a&partNumber=1&Expires=1586041182&Signature=2dN0tY%2F0es%3D&AWSAccessKeyId=minio"
    assert is_version_2(SignedRequest(method="PUT", target=seed, fields=()))
    assert is_version_2(SignedRequest(method="GET", target="/b", fields=(("authorization", "AWS key:sig"),)))
    assert not is_version_2(PRESIGNED)
