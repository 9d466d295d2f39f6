"""Owns which fields belong to one connection only, and who the client behind trusted proxies is."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from gateway.http.exchange import Peer
from gateway.http.head import Field, Fields, RequestHead

# RFC 9110 section 7.6.1, and what older agents send. Everything that begins with "proxy-" is treated alike in
# requests; in answers "proxy-status" (RFC 9209) is end-to-end and stays.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
_KNOWN_ADDRESSES: Final = 4096  # cached answers per network list; more clients than this start over
_ADDRESS_MAX_CHARS: Final = 64  # the longest IPv6 address with zone and port has fewer
_KEEP_ALIVE: Final = ["keep-alive"]
_NO_FIELDS: Final = Fields()
_NO_OPTIONS: Final[frozenset[str]] = frozenset()
_FORWARDED_PAIR: Final = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(\"(?:[^\"\\]|\\.)*\"|[^\",;\s]*)[ \t]*([;,]|$)"
)


def connection_options(fields: Fields) -> frozenset[str]:
    """The field names, in lower case, that ``Connection`` makes hop-by-hop (RFC 9110 section 7.6.1)."""
    values = [value for name, value in fields if name == "connection"]
    if not values or values == _KEEP_ALIVE:  # what nearly everybody sends
        return _NO_OPTIONS
    return frozenset(item.strip(" \t").lower() for value in values for item in value.split(","))


def strip_hop_by_hop(fields: Fields) -> tuple[Field, ...]:
    """``fields`` without those that are meant for this connection only."""
    named = connection_options(fields)
    return tuple(field for field in fields if field[0] not in HOP_BY_HOP and field[0] not in named)


class Networks:
    """Addresses in CIDR notation, with a memory of the answers it gave. Raises: ValueError for what is no CIDR."""

    __slots__ = ("_known", "_networks")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(text, strict=False) for text in texts
        )
        self._known: dict[str, bool] = {}

    def holds(self, address: str) -> bool:
        """Whether ``address`` lies in one of the networks. What is no IP address lies in none."""
        if not self._networks:
            return False
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KNOWN_ADDRESSES:
                self._known.clear()
            known = self._known[address] = self._look_up(address)
        return known

    def _look_up(self, address: str) -> bool:
        try:
            ip = ip_address(canonical_address(address))
        except ValueError:
            return False
        return any(ip in network for network in self._networks)


def canonical_address(text: str) -> str:
    """An IP address without port, brackets, zone or IPv4-in-IPv6 wrapping.

    Raises: ValueError for anything else.
    """
    if len(text) > _ADDRESS_MAX_CHARS:
        raise ValueError("too long for an address")
    return _canonical_address(text)


@lru_cache(maxsize=_KNOWN_ADDRESSES)
def _canonical_address(text: str) -> str:
    address = text.strip(" \t")
    if address.startswith("["):
        address, bracket, port = address[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            raise ValueError(text)
    elif address.count(":") == 1:
        address, _, digits = address.partition(":")
        if not _is_port(":" + digits):
            raise ValueError(text)
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip)


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit() and len(text) <= len(":65535")


def resolve_peer(
    socket_address: str, scheme: str, fields: Fields, trusted: Networks, admin: Networks
) -> Peer:
    """Who asks. Forwarding fields count only if the socket's peer is a trusted proxy.

    A unix socket's peer (address ``""`` or ``unix…``) is let in by file permission and counts as a trusted proxy.
    X-Forwarded-For is read before Forwarded; a proxy that writes only one of them lets a client write the other,
    so where the two disagree nobody is an administrator.
    """
    if not (_is_unix(socket_address) or trusted.holds(socket_address)):
        return _direct_peer(socket_address, scheme, admin)
    return _peer_behind_proxy(socket_address, scheme, fields, trusted, admin)


class PeerResolver:
    """``resolve_peer`` with the networks of the settings. Raises: ValueError for what is no CIDR."""

    __slots__ = ("_admin", "_trusted")

    def __init__(self, *, trusted: Iterable[str], admin: Iterable[str]) -> None:
        self._trusted = Networks(trusted)
        self._admin = Networks(admin)

    def resolve(self, socket_address: str, scheme: str, head: RequestHead | None) -> Peer:
        """Who asks; without a head (it could not be read) the socket's peer."""
        fields = head.fields if head is not None else _NO_FIELDS
        return resolve_peer(socket_address, scheme, fields, self._trusted, self._admin)


def _is_unix(address: str) -> bool:
    return not address or address.startswith("unix")


@lru_cache(maxsize=_KNOWN_ADDRESSES)
def _direct_peer(socket_address: str, scheme: str, admin: Networks) -> Peer:
    try:
        address = canonical_address(socket_address)
        is_admin = ip_address(address).is_loopback or admin.holds(address)
    except ValueError:
        address, is_admin = socket_address, False
    return Peer(
        address=address,
        scheme=scheme,
        is_admin=is_admin,
        trusts_forwarded=False,
        socket_address=address,
    )


def _peer_behind_proxy(
    socket_address: str, scheme: str, fields: Fields, trusted: Networks, admin: Networks
) -> Peer:
    listed = list(fields.items_of("x-forwarded-for"))
    elements = _forwarded_elements(fields)
    named = [element.get("for", "") for element in elements]
    hops = listed or named
    at, address = _walk(hops, trusted)
    agrees = not (listed and fields.has("forwarded")) or _walk(named, trusted)[1] == address
    is_admin = bool(address) and agrees and _is_admin(address, socket_address, admin)
    return Peer(
        address=address or _last_trusted(hops, at) or socket_address,
        scheme=_claimed_scheme(fields, elements if not listed else [], at, len(hops)) or scheme,
        is_admin=is_admin,
        trusts_forwarded=True,
        socket_address=socket_address,
        is_certain=agrees,
    )


def _walk(hops: list[str], trusted: Networks) -> tuple[int, str]:
    """Where, from the right, the client is: the first hop that is no trusted proxy, or the very first hop.

    The address is "" if the walk met something that is no address: then only proxies are known.
    """
    for at in range(len(hops) - 1, -1, -1):
        try:
            address = canonical_address(hops[at])
        except ValueError:
            return at, ""
        if at == 0 or not trusted.holds(address):
            return at, address
    return -1, ""


def _last_trusted(hops: list[str], at: int) -> str:
    """The proxy to the right of the hop that could not be read."""
    return canonical_address(hops[at + 1]) if 0 <= at < len(hops) - 1 else ""


def _is_admin(address: str, socket_address: str, admin: Networks) -> bool:
    if not _is_unix(socket_address) and address == canonical_address(socket_address):
        return False  # the proxy's own address says nothing about who stands behind it
    return ip_address(address).is_loopback or admin.holds(address)


def _claimed_scheme(fields: Fields, elements: list[dict[str, str]], at: int, hops: int) -> str:
    schemes = list(fields.items_of("x-forwarded-proto"))
    if schemes:
        # One value per hop tells what the client used at its hop; otherwise only the nearest proxy's word counts.
        scheme = schemes[at] if len(schemes) == hops and at >= 0 else schemes[-1]
    elif elements and at >= 0:
        scheme = elements[at].get("proto", "")
    else:
        return ""
    scheme = {"wss": "https", "ws": "http"}.get(scheme.lower(), scheme.lower())
    return scheme if scheme in {"http", "https"} else ""


def _forwarded_elements(fields: Fields) -> list[dict[str, str]]:
    """The elements of ``Forwarded`` (RFC 7239 section 4); none at all if any of it is malformed."""
    text = ",".join(fields.all("forwarded"))
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = _FORWARDED_PAIR.match(text, position)
        if match is None:
            return []
        name, value, separator = match.groups()
        if name.lower() in elements[-1]:
            return []  # RFC 7239 section 4: at most once per element
        elements[-1][name.lower()] = _unquote(value)
        if separator == ",":
            elements.append({})
        position = match.end()
    return [element for element in elements if element]


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
