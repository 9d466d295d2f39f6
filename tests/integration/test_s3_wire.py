"""Owns the answers of S3 servers other than the one in these tests (MinIO, AWS), written from their documentation."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.errors import BlobMissing, StoreDown, StoreFull
from gateway.settings import S3
from gateway.store.s3 import PATIENCE_S, S3Wire
from gateway.store.s3_answers import S3Fault, S3Faults, read_time
from gateway.store.s3_records import S3Records

type Answer = tuple[int, str]


def error(status: int, code: str) -> Answer:
    return status, (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>-</Message>'
        "<Resource>/images/x</Resource><RequestId>17A</RequestId></Error>"
    )


@dataclass(slots=True)
class Scripted:
    """A server that gives these answers, one after the other, and remembers what it was asked."""

    answers: list[Answer]
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def serve() -> Iterator[Callable[..., Scripted]]:
    servers: list[ThreadingHTTPServer] = []

    def start(*answers: Answer) -> Scripted:
        scripted = Scripted(list(answers))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                scripted.asked.append(
                    (self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
                )
                status, body = scripted.answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Last-Modified", "Tue, 24 Nov 2026 03:00:00 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - the names http.server asks for

            def log_message(self, *_args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        scripted.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return scripted

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def wire(scripted: Scripted, **changes: str) -> S3Wire:
    values = {"access_key": "key", "secret_key": "secret", "bucket": "images"} | changes
    return S3Wire(S3.model_validate(values | {"endpoint": f"127.0.0.1:{scripted.port}"}))


def test_a_busy_server_is_asked_again(serve: Callable[..., Scripted]) -> None:
    scripted = serve(error(503, "SlowDown"), error(500, "InternalError"), (200, "here"))
    client = wire(scripted)
    assert client.request("GET", "x").body == b"here"
    client.close()


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (error(507, "XMinioStorageFull"), StoreFull),
        (error(403, "QuotaExceeded"), StoreFull),
        (error(403, "AccessDenied"), StoreDown),
        (error(403, "RequestTimeTooSkewed"), StoreDown),
        (error(404, "NoSuchKey"), BlobMissing),
        (error(404, "NoSuchUpload"), BlobMissing),
        (error(200, "InternalError"), StoreDown),
        ((400, "not xml"), StoreDown),
    ],
)
def test_every_refusal_has_its_meaning(
    serve: Callable[..., Scripted], answer: Answer, meaning: type[Exception]
) -> None:
    client = wire(serve(answer))
    with pytest.raises(meaning), S3Faults():
        client.request("POST", "x", query={"uploadId": "1"}, patience_s=0)
    client.close()


def test_the_old_key_pair_is_tried_when_the_new_one_is_refused_and_then_stays_first(
    serve: Callable[..., Scripted],
) -> None:
    scripted = serve(error(403, "InvalidAccessKeyId"), (200, ""), (200, ""))
    client = wire(scripted, previous_access_key="old", previous_secret_key="oldsecret")
    client.request("PUT", "x", body=b"1")
    client.request("PUT", "x", body=b"1")
    used = [
        headers["authorization"].partition("Credential=")[2].partition("/")[0]
        for *_, headers in scripted.asked
    ]
    assert used == ["key", "old", "old"]
    client.close()


def test_a_server_that_changes_pairs_between_two_tries_is_asked_once_more(
    serve: Callable[..., Scripted],
) -> None:
    refused = error(403, "InvalidAccessKeyId")
    scripted = serve(refused, refused, (200, "here"))
    client = wire(scripted, previous_access_key="old", previous_secret_key="oldsecret")
    assert client.request("GET", "x").body == b"here"
    assert not client.uses_previous_keys
    scripted.answers = [refused] * 3
    with pytest.raises(S3Fault):
        client.request("GET", "x")
    client.close()


def test_that_only_the_previous_pair_works_is_known(serve: Callable[..., Scripted]) -> None:
    scripted = serve(error(403, "InvalidAccessKeyId"), (200, ""), (200, ""))
    client = wire(scripted, previous_access_key="old", previous_secret_key="oldsecret")
    client.request("GET", "x")
    assert client.uses_previous_keys
    client.take_keys(S3.model_validate({"access_key": "old", "secret_key": "oldsecret"}))
    client.request("GET", "x")
    assert not client.uses_previous_keys
    client.close()


def test_a_server_that_refuses_the_keys_is_as_good_as_down_until_it_takes_them(
    serve: Callable[..., Scripted],
) -> None:
    # HEAD's answer has no body: the listing says why.
    scripted = serve((403, ""), error(403, "SignatureDoesNotMatch"))
    client = wire(scripted)
    with pytest.raises(StoreDown, match="SignatureDoesNotMatch"):
        client.require_up("objects/")
    assert "prefix=objects%2F" in scripted.asked[1][1]
    scripted.answers = [(200, "")]
    client.require_up("objects/")
    client.require_up("objects/")  # what was answered lately is not asked again
    assert scripted.answers == []
    scripted.answers = [error(403, "SignatureDoesNotMatch"), (200, "")]
    with pytest.raises(S3Fault):  # a refusal of anything else makes the next upload ask before it begins
        client.request("PUT", "x", body=b"1")
    client.require_up("objects/")
    assert scripted.answers == []
    client.close()


@pytest.mark.parametrize("answers", [[(404, "")], [(403, ""), (200, "")], [(403, ""), (404, "")]])
def test_keys_for_one_prefix_and_a_bucket_that_is_not_there_yet_are_no_refusal(
    serve: Callable[..., Scripted], answers: list[Answer]
) -> None:
    scripted = serve(*answers)
    client = wire(scripted)
    client.require_up("in/")
    assert scripted.answers == []
    client.close()


def test_a_missing_bucket_is_made_in_its_region(serve: Callable[..., Scripted]) -> None:
    scripted = serve(error(404, "NoSuchBucket"), (200, ""), (200, ""))
    client = wire(scripted, region="eu-west-1")
    client.request("PUT", "a:b", body=b"1")
    assert [(method, path) for method, path, _ in scripted.asked] == [
        ("PUT", "/images/a%3Ab"),
        ("PUT", "/images"),
        ("PUT", "/images/a%3Ab"),
    ]
    client.close()


def test_a_server_without_conditional_writes_still_takes_keys(serve: Callable[..., Scripted]) -> None:
    scripted = serve((404, ""), error(501, "NotImplemented"), (200, ""))
    client = wire(scripted)
    key = f"alice/tools/fold:sha256.{'0' * 64}"
    assert S3Records(client, patience_s=PATIENCE_S).add_key(key, "ab", size=1, sha256="0" * 64)
    assert [method for method, *_ in scripted.asked] == ["HEAD", "PUT", "PUT"]
    assert scripted.asked[1][2]["if-none-match"] == "*"
    client.close()


def test_a_key_that_came_in_between_is_not_new(serve: Callable[..., Scripted]) -> None:
    scripted = serve((404, ""), error(412, "PreconditionFailed"))
    client = wire(scripted)
    key = f"alice/tools/fold:sha256.{'0' * 64}"
    assert not S3Records(client, patience_s=PATIENCE_S).add_key(key, "ab", size=1, sha256="0" * 64)
    client.close()


def test_listings_go_on_page_by_page(serve: Callable[..., Scripted]) -> None:
    def page(name: str, *, more: bool) -> Answer:
        token = "<NextContinuationToken>n/1=</NextContinuationToken>" if more else ""
        return 200, (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"<Contents><Key>objects/{name}</Key><Size>5</Size>"
            "<LastModified>2026-11-24T03:00:00.000Z</LastModified></Contents></ListBucketResult>"
        )

    scripted = serve(page("a", more=True), page("b", more=False))
    client = wire(scripted)
    assert [found.name for found in S3Records(client, patience_s=PATIENCE_S).list("objects/")] == ["a", "b"]
    assert "continuation-token=n%2F1%3D" in scripted.asked[1][1]
    client.close()


def test_without_a_key_nothing_is_sent(serve: Callable[..., Scripted]) -> None:
    scripted = serve()
    with pytest.raises(StoreDown, match="access key"):
        wire(scripted, access_key="").request("GET", "x")
    assert scripted.asked == []


def test_dates_of_both_kinds_are_read() -> None:
    assert read_time("Tue, 24 Nov 2026 03:00:00 GMT") == read_time("2026-11-24T03:00:00.000Z") == 1795489200.0
