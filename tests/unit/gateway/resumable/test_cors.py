"""Which pages of other origins may send uploads."""

import pytest

from gateway.http.head import NO_BODY, Fields, RequestHead
from gateway.resumable.cors import Cors


def head(*fields: tuple[str, str]) -> RequestHead:
    return RequestHead(method="OPTIONS", target="/uploads/", fields=Fields(fields), framing=NO_BODY)


PREFLIGHT = ("access-control-request-method", "PATCH")


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), "https://a.example", False),
        (("https://a.example",), "https://a.example", True),
        (("https://a.example/",), "https://A.example", True),
        (("https://a.example",), "http://a.example", False),
        (("https://a.example",), "https://a.example.evil.example", False),
        (("https://a.example",), "null", False),
        (("*",), "https://b.example", True),
        (("*",), "", False),
    ],
)
def test_only_listed_origins_are_let_in(origins: tuple[str, ...], origin: str, allowed: bool) -> None:
    cors = Cors(origins)
    fields = (("origin", origin),) if origin else ()
    said = dict(cors.fields(head(*fields)))
    assert ("access-control-allow-origin" in said) is allowed
    assert ("vary" in said) is bool(origins)
    assert bool(cors.preflight(head(*fields, PREFLIGHT))) is allowed
    assert cors.preflight(head(*fields)) == ()
    if allowed:
        assert said["access-control-allow-origin"] == origin
        exposed = {name.strip().lower() for name in said["access-control-expose-headers"].split(",")}
        assert {"location", "upload-offset", "upload-length", "tus-resumable", "image-location"} <= exposed
        preflight = dict(cors.preflight(head(*fields, PREFLIGHT)))
        asked = {name.strip().lower() for name in preflight["access-control-allow-headers"].split(",")}
        assert {"authorization", "upload-offset", "upload-metadata", "tus-resumable", "content-type"} <= asked
        assert "PATCH" in preflight["access-control-allow-methods"]
