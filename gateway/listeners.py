"""Owns where the listening sockets come from: a parent, systemd, the process before this one, or opened here.

A successor serves what its settings say: what it inherits goes on without a gap where the addresses are the same,
new listeners are opened, and those that nobody wants any more end with the process before it.
"""

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.net.server import leaves_ipv4, listen_on, listener_addresses
from gateway.settings import Settings
from gateway.supervise import inherited_sockets, worker_number
from gateway.systemd import activated_sockets, is_activated

log = logging.getLogger("gateway")

_ANY_IPV6: Final = "::"


def open_listeners(settings: Settings) -> dict[str, socket.socket]:
    """The listening sockets of this process, by their names. Raises: SettingsError."""
    inherited = inherited_sockets(os.environ)
    if inherited and worker_number(os.environ) is None and not is_activated(os.environ):
        return take_over(listener_addresses(settings), inherited)
    # A worker listens where its parent does; and what systemd holds is for its units to say.
    return inherited or activated_sockets(os.environ) or listen_on(listener_addresses(settings))


def take_over(
    addresses: Mapping[str, str], inherited: Mapping[str, socket.socket]
) -> dict[str, socket.socket]:
    """Sockets for these addresses: inherited ones where they fit, the others opened. Raises: SettingsError."""
    left = dict(inherited)
    taken = dict(_matching(addresses, left))
    for name, sock in taken.items():
        if inherited.get(name) is not sock:
            log.info("%s goes on at %s", name, addresses[name])
    missing = [name for name in addresses if name not in taken]
    with _shared(left.values()):
        opened = listen_on(addresses, names=missing, beside_others=bool(left))
    for name in missing:
        log.info("%s listens on %s", name, addresses[name])
    for name, sock in left.items():
        log.info("%s at %s:%d is not served any more", name, *sock.getsockname()[:2])
        sock.close()
    return {name: taken.get(name) or opened[name] for name in addresses}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address of the settings, as the kernel would say it. Port 0 stands for any."""

    hosts: frozenset[str]
    port: int
    is_ipv6_only: bool

    def fits(self, sock: socket.socket, *, any_port: bool) -> bool:
        """Whether the socket is bound there."""
        host, port = sock.getsockname()[:2]
        if host not in self.hosts or (port != self.port and not (any_port and self.port == 0)):
            return False
        if host != _ANY_IPV6:
            return True
        return bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)) == self.is_ipv6_only


def _matching(
    addresses: Mapping[str, str], left: dict[str, socket.socket]
) -> Iterator[tuple[str, socket.socket]]:
    """Each name with the socket that fits, which is taken out of ``left``; the same address before any port."""
    wanted = {name: _wanted(address, addresses.values()) for name, address in addresses.items()}
    for any_port in (False, True):
        for name, place in tuple(wanted.items()):
            # Two listeners with any port are told apart by their names.
            found = [other for other in left if place.fits(left[other], any_port=any_port)]
            if found:
                del wanted[name]
                yield name, left.pop(name if name in found else found[0])


def _wanted(address: str, all_addresses: Iterable[str]) -> _Wanted:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return _Wanted(hosts=_resolved(host), port=int(port), is_ipv6_only=leaves_ipv4(address, all_addresses))


def _resolved(host: str) -> frozenset[str]:
    try:
        return frozenset({str(ipaddress.ip_address(host))})
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return frozenset()  # opening it will say what is wrong
    return frozenset(str(place[4][0]) for place in found)


@contextlib.contextmanager
def _shared(sockets: Iterable[socket.socket]) -> Iterator[None]:
    """While the block runs, the same user may listen at these places, too.

    From 127.0.0.1:443 to 0.0.0.0:443 without a gap is only possible while both are open. Who starts another gateway
    does not ask for it, and is refused before and after.
    """
    sockets = tuple(sockets)
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
