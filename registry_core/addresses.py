"""Owns whom an address stands for, where requests are counted: IPv6 gives one household 2^64 addresses."""

import ipaddress
from functools import lru_cache
from typing import Final

_HOUSEHOLD_BITS: Final = 64


@lru_cache(maxsize=4096)
def counted_as(address: str) -> str:
    """The address, or the /64 network of an IPv6 one. What is no address stays as it is."""
    if ":" not in address or len(address) > 64:  # noqa: PLR2004 - longer than any address
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> _HOUSEHOLD_BITS << _HOUSEHOLD_BITS, _HOUSEHOLD_BITS)))
