"""Owns the names of blobs: what an administrator sees under ``blobs/`` on disk and in the bucket."""

import re
from typing import Final

from gateway.contract import NAME_PATTERN, SHA256_HEX
from gateway.errors import BlobMissing, NotFound

_KEY: Final = re.compile(rf"{NAME_PATTERN}/{NAME_PATTERN}/{NAME_PATTERN}:sha256\.[0-9a-f]{{64}}")


def blob_key(entity: str, collection: str, container: str, sha256: str) -> str:
    """``entity/collection/container:sha256.<hex>``, the layout of the old stack with the entity in front."""
    return check_key(f"{entity}/{collection}/{container}:sha256.{sha256}")


def check_key(key: str) -> str:
    """The key itself, once it is proven to be one: this is what keeps a key from ever being a path out of the root.

    Raises: NotFound.
    """
    if not _KEY.fullmatch(key):
        raise NotFound(detail=f"not a blob key: {key[:200]!r}")
    return key


def digest_of(key: str) -> str:
    """The SHA-256 in a key, lower-case hex."""
    return key.rpartition(":sha256.")[2]


def check_digest(sha256: str, *, key: str | None = None) -> str:
    """The digest itself, once it is proven to be one, and the one that ``key`` names: it becomes part of a path.

    Raises: BlobMissing, NotFound.
    """
    if not SHA256_HEX.fullmatch(sha256) or (key is not None and digest_of(check_key(key)) != sha256):
        raise BlobMissing(detail=f"not a digest, or not that of {key!r}: {sha256[:200]!r}")
    return sha256
