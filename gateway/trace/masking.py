"""Owns what of a head may be shown: everything but what gives access."""

import re
from collections.abc import Iterable
from typing import Final

from gateway.mask import MASK, mask_target

_SECRET_NAMES: Final = re.compile(
    r"authorization|cookie|signature|token|secret|password|credential|ticket|api[-_]?key|session|csrf"
)
type Field = tuple[str, str]

_AUTHORIZATIONS: Final = frozenset(("authorization", "proxy-authorization"))
# Of a V4 signature everything may be seen that helps to explain it, but neither the key's name nor the signature.
_V4_SECRETS: Final = re.compile(r"((?:Credential|Signature)=)[^,\s]+")
_LINKS: Final = frozenset(("location", "content-location", "referer", "link", "x-original-uri", "refresh"))
_URL: Final = re.compile(r"^([a-z]+://[^/?#]+)(.*)$", re.DOTALL)


def mask_fields(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The fields with every secret replaced, in their order."""
    return tuple((name, mask_value(name.lower(), value)) for name, value in fields)


def mask_value(name: str, value: str) -> str:
    """One value; the name is in lower case."""
    if name in _AUTHORIZATIONS:
        scheme, space, rest = value.partition(" ")
        if scheme.startswith("AWS4-"):
            return scheme + space + _V4_SECRETS.sub(rf"\1{MASK}", rest)
        return f"{scheme} {MASK}" if space else MASK
    if name in {"cookie", "set-cookie"}:
        cookie, equals, _ = value.partition("=")
        return f"{cookie}={MASK}" if equals else MASK
    if name in _LINKS:
        return mask_url(value)
    if _SECRET_NAMES.search(name):
        return MASK
    return value


def mask_url(url: str) -> str:
    """A target with or without scheme and host before it."""
    whole = _URL.match(url)
    if whole is None:
        return mask_target(url)
    return whole[1] + (mask_target(whole[2]) if whole[2] else "")
