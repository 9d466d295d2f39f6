"""The URL space: which request goes where."""

import pytest

from gateway.errors import MethodNotAllowed, NotFound
from gateway.http.head import NO_BODY, Fields, RequestHead
from gateway.http.route import (
    ToAcme,
    ToBlob,
    ToCore,
    ToLegacyPush,
    ToOperations,
    ToTransfer,
    ToUpload,
    ToUploadStatus,
    choose_route,
)


def ask(method: str, target: str) -> RequestHead:
    return RequestHead(method=method, target=target, fields=Fields(), framing=NO_BODY)


@pytest.mark.parametrize(
    ("method", "target", "route"),
    [
        ("GET", "/", ToCore()),
        ("GET", "/upload", ToCore()),
        ("POST", "/upload?collection=a/b", ToUpload()),
        ("GET", "/uploadx", ToCore()),
        ("PUT", "/v2/transfers/x.y", ToTransfer()),
        ("GET", "/v1/blobs/x.y", ToBlob()),
        ("POST", "/v1/imagefile/17", ToLegacyPush()),
        ("GET", "/v1/imagefile/a/b/c:latest", ToCore()),
        ("POST", "/v1/imagefile/a/b", ToCore()),
        ("GET", "/v2/uploads/abc", ToUploadStatus("abc")),
        ("GET", "/.well-known/acme-challenge/tok", ToAcme("tok")),
        ("GET", "/-/healthz", ToOperations("healthz")),
        ("GET", "/-", ToCore()),
    ],
)
def test_a_request_goes_to(method: str, target: str, route: object) -> None:
    assert choose_route(ask(method, target)) == route


@pytest.mark.parametrize(
    "path", ["/internal/tickets", "//internal/x", "/%69nternal/commits", "/INTERNAL/", "/%2finternal"]
)
def test_internal_calls_never_come_from_outside(path: str) -> None:
    with pytest.raises(NotFound):
        choose_route(ask("POST", path))


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PUT", "/upload", "GET, HEAD, POST"),
        ("GET", "/v2/transfers/x", "PUT"),
        ("DELETE", "/v2/uploads/0123456789abcdef", "GET, HEAD"),
        ("POST", "/.well-known/acme-challenge/x", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, target: str, allow: str) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        choose_route(ask(method, target))
    assert caught.value.headers == (("allow", allow),)
