"""Owns the proof that nothing which gives access is shown."""

import pytest

from gateway.trace.masking import mask_fields, mask_url

SECRETS = {
    "authorization": ("Bearer sesame", "Bearer ***"),
    "proxy-authorization": ("Basic sesame", "Basic ***"),
    "cookie": ("session=sesame; other=sesame", "session=***"),
    "set-cookie": ("session=sesame; Path=/; HttpOnly", "session=***"),
    "x-gateway-signature": ("sesame", "***"),
    "x-amz-security-token": ("sesame", "***"),
    "x-api-key": ("sesame", "***"),
    "x-csrf-token": ("sesame", "***"),
    "x-upload-ticket": ("sesame", "***"),
    "location": ("https://h.example/v1/blobs/sesame?x=1", "https://h.example/v1/blobs/***?x=1"),
    "content-location": ("/v2/transfers/sesame", "/v2/transfers/***"),
    "referer": ("https://h.example/login?token=sesame&next=/", "https://h.example/login?token=***&next=/"),
    "x-original-uri": ("/uploads/sesame", "/uploads/***"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_and_the_rest_is_left(name: str) -> None:
    value, shown = SECRETS[name]
    assert mask_fields([(name, value)]) == ((name, shown),)
    assert mask_fields([(name.title(), value)]) == ((name.title(), shown),)


def test_an_authorization_without_a_scheme_is_all_secret() -> None:
    assert mask_fields([("authorization", "sesame"), ("cookie", "sesame")]) == (
        ("authorization", "***"),
        ("cookie", "***"),
    )


def test_of_a_signature_what_explains_it_is_left() -> None:
    value = (
        "AWS4-HMAC-SHA256 Credential=sesame/20261124/us-east-1/s3/aws4_request,"
        " SignedHeaders=host;x-amz-date, Signature=sesame"
    )
    [(_, shown)] = mask_fields([("authorization", value)])
    assert shown == "AWS4-HMAC-SHA256 Credential=***, SignedHeaders=host;x-amz-date, Signature=***"


def test_a_presigned_link_keeps_its_path_and_its_life() -> None:
    link = (
        "https://s3.example/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=sesame&X-Amz-Expires=300"
        "&X-Amz-SignedHeaders=host&X-Amz-Signature=sesame"
    )
    shown = mask_url(link)
    assert "sesame" not in shown
    assert shown.startswith("https://s3.example/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert "X-Amz-Expires=300" in shown


def test_what_is_no_secret_stays() -> None:
    plain = (
        ("host", "h.example"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("accept", "*/*"),
        ("location", "https://h.example"),
        ("etag", '"abc"'),
    )
    assert mask_fields(plain) == plain
