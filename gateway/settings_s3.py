"""Owns what an S3 server and a bucket may be called in the settings. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

_SCHEMES: Final = {"http": False, "https": True}
_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?")
_MOST_PORT: Final = 65535
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IP_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_BOOL: Final = TypeAdapter(bool)


def take_apart(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the section, a scheme before an endpoint turned into the setting that says the same.

    Raises: ValueError (the two disagree).
    """
    taken = dict(values)
    for name, setting in (("endpoint", "ssl"), ("external_endpoint", "external_ssl")):
        if not isinstance(said := taken.get(name), str):
            continue
        scheme, found, rest = said.strip().partition("://")
        if not found:
            continue
        if scheme.lower() not in _SCHEMES:
            raise ValueError(
                f"{name} begins with {scheme}://: write HOST:PORT, or http:// or https:// before it"
            )
        is_tls = _SCHEMES[scheme.lower()]
        taken[name] = rest
        if taken.get(setting) in (None, "same"):
            taken[setting] = is_tls if setting == "ssl" else "on" if is_tls else "off"
        elif _differs(taken[setting], is_tls):
            raise ValueError(
                f"{name} begins with {scheme.lower()}://, and {setting} is {taken[setting]!s}: correct one of the"
                " two, or leave the scheme out"
            )
    return taken


def _differs(said: object, is_tls: bool) -> bool:
    """Whether a setting says the opposite. What it cannot say at all is refused for itself."""
    try:
        return _BOOL.validate_python(said) is not is_tls
    except ValidationError:
        return False


def check_endpoint(text: str) -> str:
    """HOST or HOST:PORT. Raises: ValueError."""
    endpoint = text.strip().removesuffix("/")
    found = _HOST.fullmatch(endpoint)
    if "/" in endpoint:
        raise ValueError("must read HOST:PORT, like minio:9000, without a path: S3 needs a host of its own")
    if not found:
        raise ValueError("must read HOST:PORT, like minio:9000")
    if found[1] and not 0 < int(found[1]) <= _MOST_PORT:
        raise ValueError(f"must read HOST:PORT, with a port from 1 to {_MOST_PORT}")
    return endpoint


def check_bucket(text: str) -> str:
    """A name that S3 takes for a bucket. Raises: ValueError."""
    bucket = text.strip()
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _IP_ADDRESS.fullmatch(bucket):
        raise ValueError(
            "is no name of a bucket: S3 wants 3 to 63 lower-case letters, digits, hyphens and single dots, a letter"
            " or digit at both ends, and no IP address"
        )
    return bucket
