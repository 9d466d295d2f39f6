"""Owns the proof that forwarding fields are believed from trusted proxies only, and hop-by-hop fields stay."""

import pytest

from gateway.http.fields import (
    Networks,
    PeerResolver,
    canonical_address,
    connection_options,
    resolve_peer,
    strip_hop_by_hop,
)
from gateway.http.head import Field, Fields
from tests.support.fake_exchange import make_head

PROXIES = Networks(["10.0.0.0/8", "2001:db8:1::/48"])
ADMINS = Networks(["192.0.2.0/28"])
NOBODY = Networks()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ((("accept", "*/*"), ("connection", "keep-alive")), (("accept", "*/*"),)),
        ((("x-a", "1"), ("connection", "X-A, close")), ()),
        ((("x-a", "1"), ("connection", "close"), ("connection", "x-a")), ()),
        ((("x-a", "1"), ("connection", "keep-alive ,\tx-a ,")), ()),
        ((("keep-alive", "timeout=5"), ("te", "trailers"), ("trailer", "x-t")), ()),
        ((("transfer-encoding", "chunked"), ("upgrade", "websocket"), ("proxy-authorization", "x")), ()),
        ((("proxy-connection", "keep-alive"), ("http2-settings", "x")), ()),
        ((("proxy-status", "gw"),), (("proxy-status", "gw"),)),
    ],
)
def test_fields_of_one_connection_stay_on_it(sent: tuple[Field, ...], kept: tuple[Field, ...]) -> None:
    assert strip_hop_by_hop(Fields(sent)) == kept


def test_the_options_of_connection_are_folded_to_lower_case() -> None:
    assert connection_options(Fields([("connection", "Close, X-Thing")])) == {"close", "x-thing"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:8080 ", "192.0.2.1"),
        ("::1", "::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_form(text: str, address: str) -> None:
    assert canonical_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "unknown", "_hidden", "192.0.2", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:123456", "[::1", "[::1]x", "1" * 65,
     "192.0.2.1:²"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- any sentence will do
        canonical_address(text)


def test_networks_hold_what_lies_inside_and_nothing_that_is_no_address() -> None:
    assert PROXIES.holds("10.1.2.3")
    assert PROXIES.holds("10.1.2.3")  # from memory
    assert PROXIES.holds("2001:db8:1::5")
    assert not PROXIES.holds("11.0.0.1")
    assert not PROXIES.holds("unix:/run/x")
    assert not NOBODY.holds("10.1.2.3")
    with pytest.raises(ValueError, match="does not appear"):
        Networks(["10.0.0.0/8", "example.org"])


def test_networks_forget_rather_than_grow() -> None:
    networks = Networks(["10.0.0.0/8"])
    for number in range(5000):
        networks.holds(f"172.16.{number // 256}.{number % 256}")
    assert networks.holds("10.0.0.1")


@pytest.mark.parametrize(
    ("socket", "admin"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.3", True),
        ("192.0.2.77", False),
        ("10.0.0.1", False),
        ("nonsense", False),
    ],
)
def test_an_untrusted_peer_is_who_its_socket_says(socket: str, admin: bool) -> None:
    claims = Fields(
        [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=::1")]
    )
    peer = resolve_peer(socket, "http", claims, NOBODY, ADMINS)
    assert peer.address == peer.socket_address == socket.removeprefix("::ffff:")
    assert (peer.scheme, peer.is_admin, peer.trusts_forwarded) == ("http", admin, False)


# socket peer, fields → address, scheme, is_admin
BEHIND_PROXY = [
    pytest.param("10.0.0.1", [], "10.0.0.1", "http", False, id="no-claim"),
    pytest.param("10.0.0.1", [("x-forwarded-for", "192.0.2.3")], "192.0.2.3", "http", True, id="one-hop"),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "127.0.0.1, 203.0.113.9")],
        "203.0.113.9",
        "http",
        False,
        id="spoofed-left",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9, 10.0.0.2")],
        "203.0.113.9",
        "http",
        False,
        id="two-proxies",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.2,10.0.0.3")],
        "203.0.113.9",
        "http",
        False,
        id="several-lines",
    ),
    pytest.param("10.0.0.1", [("x-forwarded-for", "10.0.0.9")], "10.0.0.9", "http", False, id="all-trusted"),
    pytest.param(
        "10.0.0.1", [("x-forwarded-for", "junk, 10.0.0.2")], "10.0.0.2", "http", False, id="junk-ends-it"
    ),
    pytest.param("10.0.0.1", [("x-forwarded-for", "junk")], "10.0.0.1", "http", False, id="only-junk"),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "HTTPS")],
        "203.0.113.9",
        "https",
        False,
        id="proto",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9, 10.0.0.2"), ("x-forwarded-proto", "https, http")],
        "203.0.113.9",
        "https",
        False,
        id="proto-per-hop",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https, http")],
        "203.0.113.9",
        "http",
        False,
        id="proto-of-the-nearest",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "gopher")],
        "203.0.113.9",
        "http",
        False,
        id="proto-junk",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "wss")],
        "203.0.113.9",
        "https",
        False,
        id="wss",
    ),
    pytest.param(
        "10.0.0.1",
        [("forwarded", 'for="[2001:db8::7]:4711";proto=https')],
        "2001:db8::7",
        "https",
        False,
        id="rfc7239",
    ),
    pytest.param(
        "10.0.0.1",
        [("forwarded", 'for=192.0.2.3;host="a,b;c";proto=https, for=10.0.0.2')],
        "192.0.2.3",
        "https",
        True,
        id="rfc7239-quoted",
    ),
    pytest.param(
        "10.0.0.1", [("forwarded", "for=_hidden")], "10.0.0.1", "http", False, id="rfc7239-obfuscated"
    ),
    pytest.param(
        "10.0.0.1", [("forwarded", 'for="192.0.2.3')], "10.0.0.1", "http", False, id="rfc7239-malformed"
    ),
    pytest.param(
        "10.0.0.1",
        [("forwarded", "for=192.0.2.3;for=192.0.2.4")],
        "10.0.0.1",
        "http",
        False,
        id="rfc7239-doubled",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "192.0.2.3"), ("forwarded", "for=203.0.113.9")],
        "192.0.2.3",
        "http",
        False,
        id="disagreement-costs-the-admin",
    ),
    pytest.param(
        "10.0.0.1",
        [("x-forwarded-for", "192.0.2.3"), ("forwarded", "for=192.0.2.3")],
        "192.0.2.3",
        "http",
        True,
        id="agreement",
    ),
    pytest.param("2001:db8:1::9", [("x-forwarded-for", "::1")], "::1", "http", True, id="ipv6-proxy"),
    pytest.param("", [("x-forwarded-for", "203.0.113.9")], "203.0.113.9", "http", False, id="unix"),
    pytest.param("unix", [], "unix", "http", False, id="unix-without-a-claim"),
    pytest.param("unix:/x", [("x-forwarded-for", "192.0.2.3")], "192.0.2.3", "http", True, id="unix-path"),
]


@pytest.mark.parametrize(("socket", "claims", "address", "scheme", "admin"), BEHIND_PROXY)
def test_a_trusted_proxy_is_looked_through(
    socket: str, claims: list[Field], address: str, scheme: str, admin: bool
) -> None:
    peer = resolve_peer(socket, "http", Fields(claims), PROXIES, ADMINS)
    assert (peer.address, peer.scheme, peer.is_admin) == (address, scheme, admin)
    assert peer.trusts_forwarded
    assert peer.socket_address == socket


@pytest.mark.parametrize("claim", [[], [("x-forwarded-for", "127.0.0.1")], [("x-forwarded-for", "junk")]])
def test_a_local_proxy_does_not_make_its_clients_administrators(claim: list[Field]) -> None:
    peer = resolve_peer(
        "127.0.0.1", "http", Fields(claim), Networks(["127.0.0.0/8"]), Networks(["127.0.0.0/8"])
    )
    assert not peer.is_admin


def test_the_resolver_takes_networks_from_settings_and_does_without_a_head() -> None:
    resolver = PeerResolver(trusted=("10.0.0.0/8",), admin=())
    head = make_head("GET", "/", ("x-forwarded-for", "203.0.113.9"))
    assert resolver.resolve("10.0.0.1", "https", head).address == "203.0.113.9"
    assert resolver.resolve("10.0.0.1", "https", None).address == "10.0.0.1"
