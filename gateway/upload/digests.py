"""Owns the digests of a file on an upload route: as many as its fields use, computed in one pass."""

import hashlib
import zlib
from collections.abc import Iterable
from typing import Final, Protocol


class _Digest(Protocol):
    def update(self, data: memoryview | bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Crc32:
    """CRC-32 (IEEE) in the manner of hashlib."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview | bytes, /) -> None:
        """Go on with these bytes."""
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        """Eight hexadecimal digits."""
        return f"{self._value:08x}"


def _make(name: str) -> _Digest:
    if name == "crc32":
        return Crc32()
    # MD5 and SHA-1 are here for backends that name files by them, not for security.
    return hashlib.new(name, usedforsecurity=False)


class FileDigests:
    """Several digests of one file; ``update`` lets go of the interpreter's lock for large pieces."""

    def __init__(self, names: Iterable[str]) -> None:
        self._digests: Final = {name: _make(name) for name in names}

    def update(self, data: memoryview | bytes, /) -> None:
        """Go on with these bytes."""
        for digest in self._digests.values():
            digest.update(data)

    def results(self) -> dict[str, str]:
        """Lower-case hexadecimal, by name: the ``digests`` of a ``StoredFile``."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}
