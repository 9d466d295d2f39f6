"""Owns the small objects of the S3 store: which object holds which bytes, and which keys name them.

What lies in the bucket:

``objects/STAGED``
    the bytes, once, under the name of the upload that brought them: S3 must be told a name before the digest is
    known, and cannot rename. Nothing reads an object that no digest points to.
``digests/DIGEST/STAGED``
    empty; its name says which object holds these bytes. One listing tells all of them.
``blobs/ENTITY/COLLECTION/CONTAINER:sha256.DIGEST``
    what an administrator sees: one small JSON object per key, that names object, digest and size.
``staging/STAGED/``
    pieces, and lists of pieces, of files that come in several requests.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.store.s3 import S3Wire
from gateway.store.s3_answers import S3Fault, read_time
from gateway.store.s3_exchange import Body
from gateway.store.s3_reading import list_pages

OBJECTS: Final = "objects/"
DIGESTS: Final = "digests/"
BLOBS: Final = "blobs/"
STAGING: Final = "staging/"
NOT_FOUND: Final = 404
_PRECONDITION_FAILED: Final = (409, 412)
_NOT_IMPLEMENTED: Final = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a key says."""

    staged: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing."""

    name: str
    size: int
    modified: float


class S3Records:
    """Reading and writing them, each for ``patience_s`` at most. Every method raises: S3Fault, StoreDown."""

    def __init__(self, wire: S3Wire, *, patience_s: float) -> None:
        self._wire = wire
        self._patience_s = patience_s

    def holders(self, sha256: str) -> list[str]:
        """The objects that hold bytes with this digest; the first one counts."""
        prefix = f"{DIGESTS}{sha256}/"
        return sorted(found.name for found in self.list(prefix))

    def add_holder(self, sha256: str, staged: str) -> None:
        """Say that the object of an upload holds these bytes."""
        self._wire.request("PUT", f"{DIGESTS}{sha256}/{staged}", patience_s=self._patience_s)

    def drop_holder(self, sha256: str, staged: str) -> None:
        """Take that back."""
        self.delete(f"{DIGESTS}{sha256}/{staged}")

    def read_key(self, key: str) -> Named | None:
        """What a key names; None if there is no such key."""
        try:
            answer = self._wire.request("GET", BLOBS + key, patience_s=self._patience_s)
        except S3Fault as fault:
            if fault.answer.status == NOT_FOUND:
                return None
            raise
        said = json.loads(answer.body)
        return Named(
            staged=str(said["object"]).removeprefix(OBJECTS), size=said["size"], modified=answer.modified
        )

    def add_key(self, key: str, staged: str, *, size: int, sha256: str) -> bool:
        """Name an object by a key; False, and nothing changes, if the key is there."""
        if self.size_of(BLOBS + key) is not None:
            return False
        try:
            self.set_key(key, staged, size=size, sha256=sha256, only={"If-None-Match": "*"})
        except S3Fault as fault:
            if fault.answer.status in _PRECONDITION_FAILED:
                return False
            if fault.answer.status != _NOT_IMPLEMENTED:
                raise
            # A server that knows no conditions: the question above has to do.
            self.set_key(key, staged, size=size, sha256=sha256)
        return True

    def set_key(
        self, key: str, staged: str, *, size: int, sha256: str, only: Mapping[str, str] | None = None
    ) -> None:
        """Name an object by a key, whatever it named before; ``only`` are conditions in headers."""
        said = {"object": OBJECTS + staged, "size": size, "sha256": sha256}
        self._wire.request(
            "PUT",
            BLOBS + key,
            body=json.dumps(said).encode() + b"\n",
            headers={"Content-Type": "application/json", **(only or {})},
            patience_s=self._patience_s,
        )

    def write(self, name: str, body: Body) -> None:
        """Write an object of one request."""
        self._wire.request("PUT", name, body=body, patience_s=self._patience_s)

    def read(self, name: str) -> bytes:
        """A small object, whole."""
        return self._wire.request("GET", name, patience_s=self._patience_s).body

    def size_of(self, name: str) -> int | None:
        """The size of an object, None if it is not there."""
        try:
            return self._wire.request("HEAD", name, patience_s=self._patience_s).size
        except S3Fault as fault:
            if fault.answer.status == NOT_FOUND:
                return None
            raise

    def delete(self, name: str) -> None:
        """Absent ones are fine."""
        try:
            self._wire.request("DELETE", name, patience_s=self._patience_s)
        except S3Fault as fault:
            if fault.answer.status != NOT_FOUND:
                raise

    def list(self, prefix: str) -> Iterator[Listed]:
        """Every object below a prefix; ``name`` without it."""
        query = {"list-type": "2", "prefix": prefix}
        markers = {"NextContinuationToken": "continuation-token"}
        for page in list_pages(self._wire, query, next_markers=markers, patience_s=self._patience_s):
            for found in page.iterfind("{*}Contents"):
                yield Listed(
                    name=(found.findtext("{*}Key") or "").removeprefix(prefix),
                    size=int(found.findtext("{*}Size") or 0),
                    modified=read_time(found.findtext("{*}LastModified") or ""),
                )
