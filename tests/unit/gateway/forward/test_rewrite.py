"""Owns the proof of what an upstream gets to see of a request, and a client of an answer."""

from dataclasses import replace

import pytest

from gateway.forward.rewrite import allowed_trailers, answer_fields, request_head, simple_head, upgrade_of
from gateway.http.exchange import Peer
from gateway.http.head import Chunked, Field, Fields, RequestHead, Sized
from tests.support.fake_exchange import LOCAL_PEER, make_head

BEHIND_PROXY = Peer(
    address="203.0.113.9", scheme="https", is_admin=False, trusts_forwarded=True, socket_address="10.0.0.1"
)


def rewritten(head: RequestHead, peer: Peer = LOCAL_PEER, *, upgrade: str = "") -> tuple[str, Fields]:
    """The request line and the fields of the rewritten head, which must be well-formed."""
    raw = request_head(head, peer, "req-1", upgrade=upgrade)
    assert raw.endswith(b"\r\n\r\n")
    line, *rest = raw[:-4].decode("latin-1").split("\r\n")
    return line, Fields((name, value) for name, _, value in (entry.partition(": ") for entry in rest))


@pytest.mark.parametrize(
    "target", ["/", "/a%2fb/../c//d?x=%00&y=a;b#", "/v1/images/a/b/c:latest?arch=amd64", "*", "/%ff?%"]
)
def test_the_target_stays_byte_for_byte(target: str) -> None:
    assert rewritten(make_head("OPTIONS", target))[0] == f"OPTIONS {target} HTTP/1.1"


def test_ordinary_fields_stay_in_order_with_all_their_lines() -> None:
    sent = (("accept", "a"), ("cookie", "x=1"), ("x-b", "ä\t,"), ("x-b", "2"), ("authorization", "Bearer T"))
    _, fields = rewritten(make_head("GET", "/", *sent))
    assert fields[0] == ("host", "example.org")
    assert fields[1:6] == sent


@pytest.mark.parametrize(
    "field",
    [
        ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "ftp"), ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"), ("x-forwarded-prefix", "/x"), ("x-forwarded-anything", "x"), ("forwarded", "for=x"),
        ("x-real-ip", "1.1.1.1"), ("x-request-id", "mine"), ("x-gateway-signature", "00"), ("x-gateway-time", "1"),
        ("x_gateway_signature", "00"), ("x_forwarded_for", "1.1.1.1"), ("x-gateway_time", "1"), ("proxy", "http://x"),
        ("proxy-authorization", "x"), ("proxy-anything", "x"), ("expect", "100-continue"), ("te", "gzip"),
        ("keep-alive", "5"), ("trailer", "x"), ("transfer-encoding", "gzip"), ("content-length", "9"),
        ("content_length", "9"), ("transfer_encoding", "chunked"), ("http2-settings", "x"), ("upgrade", "h2c"),
        ("x-gateway-" + "x" * 100, "1"), ("x-upload-signature", "v1 1 aa"), ("x_upload_signature", "v1 1 aa"),
    ],
)  # fmt: skip
def test_a_client_cannot_speak_for_the_gateway(field: Field) -> None:
    _, fields = rewritten(make_head("GET", "/", field))
    assert field not in fields
    assert fields == rewritten(make_head())[1]


def test_what_the_gateway_adds_is_sent() -> None:
    head = make_head("POST", "/", ("x-upload-signature", "v1 1 aa"), framing=Sized(3))
    raw = request_head(head, LOCAL_PEER, "req-1", added=(("x-upload-signature", "v1 2 bb"),))
    assert raw.count(b"x-upload-signature") == 1
    assert b"\r\nx-upload-signature: v1 2 bb\r\n" in raw


def test_fields_named_by_connection_stay_behind_but_never_ours() -> None:
    named = "x-secret, Close, X-Real-IP, X-Forwarded-For, X-Request-Id, Host, Content-Length"
    head = make_head("POST", "/", ("x-secret", "1"), ("connection", named), framing=Sized(3))
    _, fields = rewritten(head)
    assert not fields.has("x-secret")
    assert not fields.has("connection")
    assert fields.get("x-real-ip") == fields.get("x-forwarded-for") == "192.0.2.7"
    assert (fields.get("host"), fields.get("content-length"), fields.get("x-request-id")) == (
        "example.org", "3", "req-1",
    )  # fmt: skip


def test_who_asks_is_said_in_every_dialect() -> None:
    _, fields = rewritten(make_head("GET", "/", ("host", "reg.example:8443")))
    assert fields[1:] == (
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "reg.example:8443"),
        ("forwarded", 'for=192.0.2.7;host="reg.example:8443";proto=https'),
        ("x-real-ip", "192.0.2.7"),
        ("x-request-id", "req-1"),
        ("via", "1.1 sregistry-gateway"),
    )


@pytest.mark.parametrize(
    ("address", "node"),
    [("2001:db8::1", '"[2001:db8::1]"'), ("unix", "_unix"), ("", "_unix"), ("unix:/x", "_unix")],
)
def test_what_is_no_ipv4_address_is_written_as_rfc_7239_wants(address: str, node: str) -> None:
    _, fields = rewritten(make_head(), replace(LOCAL_PEER, address=address))
    assert fields.get("forwarded") == f'for={node};host="example.org";proto=https'


def test_a_host_cannot_break_out_of_its_quotes() -> None:
    _, fields = rewritten(make_head("GET", "/", ("host", 'a";for=1.1.1.1;x="\\')))
    assert fields.get("forwarded") == 'for=192.0.2.7;host="a\\";for=1.1.1.1;x=\\"\\\\";proto=https'


def test_we_are_named_behind_those_whom_the_request_passed_before() -> None:
    _, fields = rewritten(make_head("GET", "/", ("via", "1.0 cache"), minor=0))
    assert fields.all("via") == ["1.0 cache", "1.0 sregistry-gateway"]


def test_a_long_host_is_rewritten_alike() -> None:
    _, fields = rewritten(make_head("GET", "/", ("host", "h" * 300)))
    assert fields.get("x-forwarded-host") == "h" * 300


def test_behind_a_trusted_proxy_we_are_added_to_what_it_said() -> None:
    head = make_head(
        "GET",
        "/",
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-host", "public.example"),
        ("forwarded", "for=203.0.113.9"),
        ("x-gateway-signature", "00"),
    )
    _, fields = rewritten(head, BEHIND_PROXY)
    assert fields.all("x-forwarded-for") == ["203.0.113.9, 10.0.0.2, 10.0.0.1"]
    assert fields.all("x-forwarded-proto") == ["https"]
    assert fields.all("x-forwarded-host") == ["public.example"]
    assert fields.all("forwarded") == ['for=203.0.113.9, for=10.0.0.1;host="example.org";proto=https']
    assert fields.all("x-real-ip") == ["203.0.113.9"]
    assert not fields.has("x-gateway-signature")


def test_a_trusted_proxy_that_says_little_is_completed() -> None:
    _, fields = rewritten(make_head(), replace(BEHIND_PROXY, socket_address=""))
    assert fields.get("x-forwarded-for") == "unix"
    assert fields.get("x-forwarded-host") == "example.org"
    assert fields.get("forwarded") == 'for=203.0.113.9;host="example.org";proto=https'


def test_a_request_without_host_gets_an_empty_one() -> None:
    head = RequestHead(method="GET", target="/", fields=Fields(), framing=make_head().framing, minor=0)
    assert rewritten(head)[1][0] == ("host", "")


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (make_head("GET"), None),
        (make_head("DELETE"), None),
        (make_head("POST"), ("content-length", "0")),
        (make_head("PUT"), ("content-length", "0")),
        (make_head("POST", framing=Sized(5)), ("content-length", "5")),
        (make_head("GET", framing=Sized(0)), ("content-length", "0")),
        (make_head("POST", framing=Chunked()), ("transfer-encoding", "chunked")),
    ],
)
def test_framing_is_ours(head: RequestHead, framing: Field | None) -> None:
    _, fields = rewritten(head)
    found = [field for field in fields if field[0] in {"content-length", "transfer-encoding"}]
    assert found == ([framing] if framing else [])


def test_te_trailers_goes_on_as_rfc_9110_wants_it() -> None:
    head = make_head("GET", "/", ("te", "gzip;q=1, Trailers"), ("connection", "TE"))
    fields = rewritten(head)[1]
    assert (fields.get("te"), fields.get("connection")) == ("trailers", "te")
    assert not rewritten(make_head("GET", "/", ("te", "trailers")))[1].has("te")


@pytest.mark.parametrize(
    ("fields", "kind", "wanted"),
    [
        ((("upgrade", "websocket"), ("connection", "Upgrade")), {}, "websocket"),
        ((("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")), {}, "WebSocket"),
        ((("upgrade", "tcp"), ("connection", "upgrade")), {}, "tcp"),
        ((("upgrade", "websocket"),), {}, ""),
        ((("upgrade", "websocket"), ("connection", "keep-alive")), {}, ""),
        ((("connection", "upgrade"),), {}, ""),
        ((("upgrade", "h2c"), ("connection", "upgrade")), {}, ""),
        ((("upgrade", "H2C"), ("connection", "upgrade")), {}, ""),
        ((("upgrade", "HTTP/2.0"), ("connection", "upgrade")), {}, ""),
        ((("upgrade", "TLS/1.2"), ("connection", "upgrade")), {}, ""),
        ((("upgrade", "websocket, h2c"), ("connection", "upgrade")), {}, ""),
        ((("upgrade", "websocket"), ("upgrade", "h2c"), ("connection", "upgrade")), {}, ""),
        ((("upgrade", "websocket"), ("connection", "upgrade")), {"minor": 0}, ""),
        ((("upgrade", "websocket"), ("connection", "upgrade")), {"framing": Sized(3)}, ""),
        ((("upgrade", "websocket"), ("connection", "upgrade")), {"method": "POST"}, ""),
    ],
)
def test_only_a_clean_request_may_switch_protocols(
    fields: tuple[Field, ...], kind: dict[str, object], wanted: str
) -> None:
    head = replace(make_head("GET", "/", *fields), **kind)  # type: ignore[arg-type]
    assert upgrade_of(head) == wanted
    sent = rewritten(head, upgrade=upgrade_of(head))[1]
    assert sent.get("upgrade") == wanted
    assert sent.get("connection") == ("upgrade" if wanted else "")


def test_an_answer_keeps_what_is_for_the_client() -> None:
    fields = Fields(
        [
            ("content-type", "text/html"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("etag", '"x"'),
            ("server", "uvicorn"), ("date", "now"), ("x-request-id", "theirs"), ("content-length", "5"),
            ("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "5"), ("transfer-encoding", "chunked"),
            ("trailer", "x"), ("upgrade", "h2c"), ("proxy-authenticate", "x"), ("x-gateway-internal", "1"),
            ("proxy-status", "ok"), ("location", "/x"),
        ]
    )  # fmt: skip
    assert answer_fields(fields) == (
        ("content-type", "text/html"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("etag", '"x"'),
        ("proxy-status", "ok"), ("location", "/x"),
    )  # fmt: skip


def test_a_switched_answer_says_so() -> None:
    fields = Fields([("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", "x")])
    assert answer_fields(fields, upgrade="websocket") == (
        ("sec-websocket-accept", "x"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    )


def test_trailers_that_would_change_what_is_done_are_dropped() -> None:
    dropped = ["content-length", "transfer-encoding", "host", "authorization", "set-cookie", "content-type", "trailer",
               "x-forwarded-for", "x-gateway-time", "x_gateway_time", "cache-control", "content-encoding", "te"]  # fmt: skip
    kept = (("x-checksum", "1"), ("server-timing", "db"), ("repr-digest", "sha-256=:x:"))
    assert allowed_trailers([*((name, "x") for name in dropped), *kept]) == kept


def test_a_head_of_our_own_names_a_host() -> None:
    assert simple_head("GET", "/x", (), framing="") == b"GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n"
    made = simple_head("POST", "/x", (("host", "core"), ("a", "1")), framing="content-length: 2\r\n")
    assert made == b"POST /x HTTP/1.1\r\nhost: core\r\na: 1\r\ncontent-length: 2\r\n\r\n"
