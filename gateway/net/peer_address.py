"""Owns the address of whoever is at the other end of a connection, before anybody vouches for another."""

import asyncio
import socket
from typing import Final

UNIX: Final = "unix:"
GONE: Final = "gone"


def peer_address(transport: asyncio.BaseTransport) -> str:
    """An IP address; ``unix:`` for a unix socket, whose peers file permission lets in; else ``gone``.

    A TCP client that has reset its connection already has no address any more. It must not be taken for a unix
    socket's peer, which is trusted: what it sent is still read.
    """
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and name:
        return str(name[0])
    own = transport.get_extra_info("socket")
    return UNIX if own is not None and own.family == socket.AF_UNIX else GONE
