"""Owns what an upstream sees of a request, and what a client sees of an upstream's answer."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.http.exchange import Peer
from gateway.http.fields import HOP_BY_HOP, connection_options
from gateway.http.head import Chunked, Field, Fields, NoBody, RequestHead, Sized

# Fields of a request that are never taken over as they came: framing and Expect are ours, identity is proven here.
_REMADE: Final = frozenset(
    {
        *HOP_BY_HOP, "content-length", "expect", "forwarded", "host", "proxy", "x-real-ip", "x-request-id",
        "x-upload-signature",
    }
)  # fmt: skip
_REMADE_PREFIXES: Final = ("x-forwarded-", "x-gateway-", "proxy-")
_ANSWER_REMADE: Final = frozenset({*HOP_BY_HOP, "content-length", "date", "server", "x-request-id"})
_PSEUDONYM: Final = "sregistry-gateway"  # in Via, which a gateway must add (RFC 9110 section 7.6.3)
# Methods whose requests announce an empty body, so that an upstream does not wait for one (RFC 9110 section 8.6).
_EXPECT_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
# A second HTTP or TLS layer inside a tunnel would carry requests past every check ("h2c smuggling").
_UPGRADES_REFUSED: Final = ("h2", "http", "tls")
# RFC 9110 section 6.5.1: what must be known before the content has no place behind it.
_NO_TRAILER: Final = frozenset(
    {
        *_REMADE,
        "accept", "accept-charset", "accept-encoding", "accept-language", "age", "allow", "authorization",
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-location",
        "content-range", "content-type", "cookie", "date", "expires", "if-match", "if-modified-since",
        "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "origin",
        "pragma", "range", "referer", "retry-after", "server", "set-cookie", "strict-transport-security",
        "user-agent", "vary", "via", "warning", "www-authenticate",
    }
)  # fmt: skip
# What is longer is computed each time: a client must not fill our memory with what it makes up.
_CACHED_HOST_CHARS: Final = 256
_CACHED_NAME_CHARS: Final = 64


def request_head(
    head: RequestHead, peer: Peer, request_id: str, *, upgrade: str = "", added: Iterable[Field] = ()
) -> bytes:
    """The head for the upstream, with its empty line. The target is the client's, byte for byte.

    ``added``: fields of ours, which may have names that no client's field is passed with.
    """
    named = connection_options(head.fields)
    host = ""
    lines = []
    for name, value in head.fields:
        if name == "host":
            host = value
        elif not (name in named or (_is_remade(name) if len(name) <= _CACHED_NAME_CHARS else _judge(name))):
            lines.append(f"{name}: {value}\r\n")
    lines.extend(f"{name}: {value}\r\n" for name, value in added)
    lines.append(_framing(head))
    if upgrade:
        lines.append(f"connection: upgrade\r\nupgrade: {upgrade}\r\n")
    elif "te" in named and any(item.lower() == "trailers" for item in head.fields.items_of("te")):
        lines.append("connection: te\r\nte: trailers\r\n")
    if peer.trusts_forwarded:
        lines.append(_appended_identity(head.fields, peer, host))
    else:
        identify = _known_identity if len(host) <= _CACHED_HOST_CHARS else _identity
        lines.append(identify(peer.address, peer.scheme, host))
    text = (
        f"{head.method} {head.target} HTTP/1.1\r\nhost: {host}\r\n{''.join(lines)}"
        f"x-request-id: {request_id}\r\nvia: {head.version} {_PSEUDONYM}\r\n\r\n"
    )
    return text.encode("latin-1")


def _judge(name: str) -> bool:
    # CGI and WSGI upstreams cannot tell "_" from "-", so neither may a client (nginx drops such fields, too).
    dashed = name.replace("_", "-")
    return dashed in _REMADE or dashed.startswith(_REMADE_PREFIXES)


_is_remade = lru_cache(maxsize=2048)(_judge)


def _framing(head: RequestHead) -> str:
    match head.framing:
        case Sized(length):
            return f"content-length: {length}\r\n"
        case Chunked():
            return "transfer-encoding: chunked\r\n"
        case NoBody():
            return "content-length: 0\r\n" if head.method in _EXPECT_BODY else ""


def _identity(address: str, scheme: str, host: str) -> str:
    return (
        f"x-forwarded-for: {address}\r\nx-forwarded-proto: {scheme}\r\nx-forwarded-host: {host}\r\n"
        f"forwarded: {_forwarded_element(address, scheme, host)}\r\nx-real-ip: {address}\r\n"
    )


_known_identity = lru_cache(maxsize=1024)(_identity)


def _appended_identity(fields: Fields, peer: Peer, host: str) -> str:
    """What a trusted proxy said, and after it the proxy itself."""
    hop = peer.socket_address or "unix"
    hops = ", ".join([*fields.items_of("x-forwarded-for"), hop])
    ours = _forwarded_element(hop, peer.scheme, host)
    said = ", ".join(fields.all("forwarded"))
    forwarded = f"{said}, {ours}" if said else _forwarded_element(peer.address, peer.scheme, host)
    asked_host = fields.get("x-forwarded-host") or host
    return (
        f"x-forwarded-for: {hops}\r\nx-forwarded-proto: {peer.scheme}\r\nx-forwarded-host: {asked_host}\r\n"
        f"forwarded: {forwarded}\r\nx-real-ip: {peer.address}\r\n"
    )


def _forwarded_element(address: str, scheme: str, host: str) -> str:
    """One element of ``Forwarded`` (RFC 7239): IPv6 in brackets and quotes, what is no address as obfuscated."""
    if ":" in address and not address.startswith("unix"):
        node = f'"[{address}]"'
    elif address[:1].isdigit():
        node = address
    else:
        node = "_unix"
    quoted = host.replace("\\", "\\\\").replace('"', '\\"')
    return f'for={node};host="{quoted}";proto={scheme}'


def upgrade_of(head: RequestHead) -> str:
    """The protocol that a request may switch to, or "" (RFC 9110 section 7.8)."""
    wanted = head.fields.get("upgrade")
    if not wanted or head.minor == 0 or not isinstance(head.framing, NoBody) or head.method != "GET":
        return ""
    if "upgrade" not in connection_options(head.fields) or len(head.fields.all("upgrade")) > 1:
        return ""
    if "," in wanted or wanted.lower().startswith(_UPGRADES_REFUSED):
        return ""
    return wanted


def answer_fields(fields: Fields, *, upgrade: str = "") -> tuple[Field, ...]:
    """The fields of an answer for the client, without what the front door itself says about the answer."""
    named = connection_options(fields)
    kept = [field for field in fields if not (_is_remade_answer(field[0]) or field[0] in named)]
    if upgrade:
        kept.append(("connection", "upgrade"))
        kept.append(("upgrade", upgrade))
    return tuple(kept)


@lru_cache(maxsize=2048)
def _is_remade_answer(name: str) -> bool:
    return name in _ANSWER_REMADE or name.startswith("x-gateway-")


def allowed_trailers(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Those that may come after the content (RFC 9110 section 6.5.1)."""
    return tuple(field for field in fields if not (field[0] in _NO_TRAILER or _judge(field[0])))


def simple_head(method: str, target: str, fields: Iterable[Field], *, framing: str) -> bytes:
    """A head of our own, for calls that carry nobody's request. ``framing`` is a whole field line or ""."""
    listed = Fields(fields)
    host = "" if listed.has("host") else "host: localhost\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in listed)
    return f"{method} {target} HTTP/1.1\r\n{host}{lines}{framing}\r\n".encode("latin-1")
