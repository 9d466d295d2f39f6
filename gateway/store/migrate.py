"""Owns the move of all blobs from one store to another: while both serve, again and again, verified by digest.

A run that is broken off is simply run again: what the target has under its key is not copied a second time, but read
and digested, and replaced if it is damaged. Which ones were read is remembered until a run comes to its end.
The source is only read. Passes are made until one finds nothing new, so that what came in meanwhile comes along.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from gateway.errors import BlobMissing, StoreCorrupt
from gateway.store.base import BlobStore
from gateway.store.keys import digest_of
from gateway.store.verified import Verified

# What the names of copies on their way begin with: no upload of a client is named so.
STAGED_PREFIX: Final = "c0b1ed-"
_PIECE_BYTES: Final = 1 << 20
_PASSES: Final = 100  # a registry that takes images faster than they can be copied is not caught up with


@dataclass(slots=True, kw_only=True)
class Migration:
    """What a run did. ``present`` were there, and right; ``repaired`` were there, and had to be replaced; ``damaged``
    are keys whose bytes, here or there, are not what their digest says."""

    copied: int = 0
    linked: int = 0
    present: int = 0
    repaired: int = 0
    vanished: int = 0
    copied_bytes: int = 0
    damaged: list[str] = field(default_factory=list)


def migrate(
    source: BlobStore,
    target: BlobStore,
    *,
    trust_existing: bool = False,
    verified: Verified | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Migration:
    """Copy every key of ``source`` that ``target`` has not, read each copy back, and digest what was there already.

    With ``trust_existing`` what was there is compared by its size only. ``verified`` is what an earlier run found
    to be right. Raises: StoreFull, StoreDown (run it again when that is mended).
    """
    target.sweep(parts_older_than_s=0, prefix=STAGED_PREFIX)
    return _Run(source, target, verified or Verified(), trust_existing=trust_existing, tell=tell).run()


class _Run:
    """One run. What is missing comes first: while it is, it cannot be pulled."""

    def __init__(
        self,
        source: BlobStore,
        target: BlobStore,
        verified: Verified,
        *,
        trust_existing: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._source = source
        self._target = target
        self._verified = verified
        self._trust_existing = trust_existing
        self._tell = tell
        self._buffer = memoryview(bytearray(_PIECE_BYTES))
        self._seen: set[str] = set()
        self._there: list[str] = []
        self._done = Migration()

    def run(self) -> Migration:
        """Raises: StoreFull, StoreDown."""
        self._catch_up()
        while self._there:
            there, self._there = self._there, []
            for key in there:
                self._try(self._verify, key)
            self._catch_up()  # reading took its time, and others may have pushed
        self._forget_vanished()
        if not self._done.damaged:
            self._verified.forget()
        return self._done

    def _catch_up(self) -> None:
        for _ in range(_PASSES):
            fresh = [key for key in self._source.keys() if key not in self._seen]  # noqa: SIM118 - no dict
            if not fresh:
                return
            for key in fresh:
                self._seen.add(key)
                self._try(self._bring, key)

    def _try(self, step: Callable[[str], None], key: str) -> None:
        try:
            step(key)
        except BlobMissing:
            self._done.vanished += 1  # deleted while we came to it
        except StoreCorrupt as exc:
            self._done.damaged.append(key)
            self._tell(f"{key}: {exc}")

    def _bring(self, key: str) -> None:
        """Raises: BlobMissing, StoreCorrupt, StoreFull, StoreDown."""
        size = self._source.stat(key).size
        if self._has(key, size):
            self._there.append(key)
        elif not self._target.link(sha256=digest_of(key), key=key):
            self._copy(key, size, replaces=False)
            self._done.copied += 1
            self._done.copied_bytes += size
            self._tell(f"{key}: {size} bytes")
        elif self._is_right(key, size):
            self._done.linked += 1
            self._tell(f"{key}: {size} bytes, which were there")
        else:
            self._repair(key, size)

    def _verify(self, key: str) -> None:
        """Raises: BlobMissing, StoreCorrupt, StoreFull, StoreDown."""
        size = self._source.stat(key).size
        if self._is_right(key, size):
            self._done.present += 1
            return
        # On disk a key may be a copy of its own of bytes that are right.
        if self._target.link(sha256=digest_of(key), key=key) and self._is_right(key, size):
            self._done.repaired += 1
            self._tell(f"{key}: damaged in the target, which had the right bytes once more")
        else:
            self._repair(key, size)

    def _repair(self, key: str, size: int) -> None:
        self._tell(f"{key}: damaged in the target")
        self._copy(key, size, replaces=True)
        self._done.repaired += 1
        self._tell(f"{key}: {size} bytes, instead of the damaged ones")

    def _has(self, key: str, size: int) -> bool:
        try:
            return self._target.stat(key).size == size
        except BlobMissing:
            return False

    def _is_right(self, key: str, size: int) -> bool:
        """Whether the target has it, with the digest that its key names."""
        try:
            stat = self._target.stat(key)
            if stat.size != size:
                return False
            if self._trust_existing or self._verified.knows(key, stat):
                return True
            if self._digest(key) != digest_of(key):
                return False
        except BlobMissing:
            return False
        self._verified.add(key, stat)
        return True

    def _copy(self, key: str, size: int, *, replaces: bool) -> None:
        """Raises: BlobMissing, StoreCorrupt, StoreFull, StoreDown."""
        sha256 = digest_of(key)
        digest = hashlib.sha256()
        writer = self._target.create(STAGED_PREFIX + secrets.token_hex(16), size_hint=size)
        new = False
        try:
            with self._source.open(key) as file:
                for piece in self._pieces(file):
                    digest.update(piece)
                    writer.write(piece)
            if digest.hexdigest() != sha256:
                raise StoreCorrupt(detail=f"{key} in the source: its digest is {digest.hexdigest()}")
            sealed = writer.seal()
            if replaces:
                self._target.replace(sealed, sha256=sha256, key=key)
            else:
                new = self._target.place(sealed, sha256=sha256, key=key)
        finally:
            writer.discard()
        if self._digest(key) != sha256:
            if new:
                self._target.delete(key)
            raise StoreCorrupt(detail=f"{key} in the target is not what was sent")
        self._verified.add(key, self._target.stat(key))

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._target.open(key) as file:
            for piece in self._pieces(file):
                digest.update(piece)
        return digest.hexdigest()

    def _pieces(self, file: BinaryIO) -> Iterator[memoryview]:
        """Each lies where the one before it lay."""
        # Every store's file has it, although the type of files in general does not say so.
        while count := file.readinto(self._buffer):  # type: ignore[attr-defined]
            yield self._buffer[:count]

    def _forget_vanished(self) -> None:
        """What was deleted in the source after it was copied is deleted in the target too."""
        left = set(self._source.keys())
        if self._seen and not left:
            # A disk that is not mounted any more, or a removed bucket, looks the same: then these are the last copies.
            self._tell("the source has no image any more; nothing is deleted in the target")
            return
        for key in self._seen - left:
            self._target.delete(key)
            self._done.vanished += 1
