"""Owns digests of a file while it passes by: one of several algorithms, or all of them at once."""

import hashlib
import zlib
from collections.abc import Callable, Iterable
from typing import Protocol


class Digest(Protocol):
    """What hashlib's objects are."""

    def update(self, data: memoryview | bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Crc32:
    """CRC-32 as the nginx upload module gives it: eight hexadecimal digits. zlib lets other threads run meanwhile."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview | bytes, /) -> None:
        """Go on."""
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        """Of everything so far."""
        return f"{self._value:08x}"


class Digests:
    """Several digests of the same bytes."""

    def __init__(self, names: Iterable[str]) -> None:
        """``names``: md5, sha1, sha256, sha512, crc32."""
        self._digests: dict[str, Digest] = {name: _new(name) for name in names}

    def update(self, data: memoryview | bytes, /) -> None:
        """Go on with all."""
        for digest in self._digests.values():
            digest.update(data)

    def values(self) -> dict[str, str]:
        """Name → lower-case hex, of everything so far."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


def _new(name: str) -> Digest:
    if name == "crc32":
        return Crc32()
    # hashlib.new takes three times as long.
    make: Callable[..., Digest] = getattr(hashlib, name)
    return make(usedforsecurity=False)
