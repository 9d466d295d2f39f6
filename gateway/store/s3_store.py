"""Owns the S3 store: bytes once under the name of their upload, keys that name them, nothing ever copied.

Why keys are small objects that name others: docs/adr/0010-s3-keys-point.md. Which uploads are alive is told by locked
files in ``spool`` (they hold nothing else), as on disk: S3 cannot tell a slow upload from a dead one.
"""

import io
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, cast

from gateway.errors import BlobMissing, NotFound, StoreDown, StoreError
from gateway.settings import S3
from gateway.store.base import BlobStat, SealedBlob, StagedUpload
from gateway.store.disk_staging import Staging, check_staged
from gateway.store.keys import check_digest, check_key, digest_of
from gateway.store.s3 import PART_PATIENCE_S, PATIENCE_S, S3Wire
from gateway.store.s3_answers import S3Fault, S3Faults
from gateway.store.s3_collect import collect
from gateway.store.s3_direct import S3Direct
from gateway.store.s3_memory import LEAST_PART_BYTES, Buffers
from gateway.store.s3_multipart import MOST_PART_BYTES, S3Multiparts
from gateway.store.s3_parts import S3Parts, S3PartsWriter
from gateway.store.s3_reading import S3File
from gateway.store.s3_records import BLOBS, DIGESTS, NOT_FOUND, OBJECTS, STAGING, Named, S3Records
from gateway.store.s3_upload import S3Writer

# Uploads that no file on this machine tells of may belong to another gateway at the same bucket.
FOREIGN_STALE_S: Final = 7 * 86400.0
_TRIES: Final = 20
_READ_BUFFER_BYTES: Final = 256 << 10


class S3Store:
    """A ``BlobStore`` in a bucket. Making one neither dials nor fails."""

    def __init__(self, settings: S3, *, spool: Path, buffer_bytes: int) -> None:
        self._wire = S3Wire(settings)
        self._records = S3Records(self._wire, patience_s=PATIENCE_S)
        # For what a client has already sent: a server that restarts is waited for.
        self._patient = S3Records(self._wire, patience_s=PART_PATIENCE_S)
        self._multiparts = S3Multiparts(
            self._wire, Buffers(buffer_bytes, part_bytes=settings.part_bytes, folder=spool)
        )
        self._parts = S3Parts(self._multiparts, self._patient)
        self._alive = Staging(spool, reserve_bytes=0, fsync=False)
        self._direct = S3Direct(self._parts, self._alive, expire_s=settings.signed_url_expire_minutes * 60)

    def take_keys(self, settings: S3) -> None:
        """Go on with other keys; nothing under way is disturbed."""
        self._wire.take_keys(settings)

    @property
    def wire(self) -> S3Wire:
        """The way to the bucket, for ``gateway trace``."""
        return self._wire

    @property
    def buffers(self) -> Buffers:
        """The memory for parts, which others in this process may share."""
        return self._multiparts.buffers

    @property
    def waits_for_disk(self) -> bool:
        return True

    def require_up(self, *, anew: bool = False) -> None:
        """Raises: StoreDown, at once if S3 does not answer, or refuses our keys."""
        self._wire.require_up(OBJECTS, anew=anew)

    def create(self, staged: str, *, size_hint: int | None) -> S3Writer:
        """Begin a file. Raises: StoreDown, at once if S3 does not answer."""
        self.require_up()
        record = self._alive.create(staged, size_hint=None)
        return S3Writer(self._multiparts, record, size_hint=size_hint, remove=self._remove)

    def open_part(self, staged: str, *, offset: int, total_size: int) -> S3PartsWriter:
        """Begin or go on with a file that comes in parts. Raises: StoreFull, StoreDown."""
        record = self._alive.open_part(staged, offset=0, total_size=0)
        try:
            with S3Faults():
                return S3PartsWriter(self._parts, record, staged, offset=offset, total_size=total_size)
        except BaseException:
            record.close(keep=False)
            raise

    def read_staged(self, staged: str, *, offset: int = 0) -> BinaryIO:
        """Read back a file whose parts are all there: S3 puts them together first.

        Raises: BlobMissing, StoreCorrupt (parts are missing), StoreDown.
        """
        with S3Faults():
            size = self._parts.assemble(check_staged(staged), total_size=None)
            return self._read(staged, offset=min(offset, size), length=max(0, size - offset))

    def seal_parts(self, staged: str, *, total_size: int) -> SealedBlob:
        """Seal a file whose parts are all there. Raises: BlobMissing, StoreCorrupt, StoreDown."""
        with S3Faults():
            self._parts.assemble(check_staged(staged), total_size=total_size)
        return SealedBlob(staged=staged, size=total_size)

    def discard_staged(self, staged: str) -> None:
        """Remove an upload in progress, if it is there. What was placed stays; what S3 keeps now is swept later."""
        try:
            with S3Faults():
                if self._alive.has(staged) or any(True for _ in self._records.list(f"{STAGING}{staged}/")):
                    self._remove(staged)
        except (StoreError, BlobMissing):
            self._alive.let_go(staged)

    def place(self, sealed: SealedBlob, *, sha256: str, key: str) -> bool:
        """Point the digest at the object, and the key too; whether the key is new. No byte of the image moves.

        Raises: BlobMissing, StoreFull, StoreDown.
        """
        check_digest(sha256, key=key)
        check_staged(sealed.staged)
        staged = sealed.staged
        with S3Faults():
            mine = self._patient.size_of(OBJECTS + staged) is not None
            new, holder = _name(self._patient, sha256, key, spare=staged if mine else None)
            if mine and holder != staged:
                self._patient.drop_holder(sha256, staged)
                self._patient.delete(OBJECTS + staged)
            self._parts.clean(staged)
        self._alive.discard(staged)
        return new

    def replace(self, sealed: SealedBlob, *, sha256: str, key: str) -> None:
        """Let sealed bytes take the place of damaged ones, for every key that names their digest.

        Raises: BlobMissing, StoreFull, StoreDown.
        """
        check_digest(sha256, key=key)
        staged = check_staged(sealed.staged)
        with S3Faults():
            if self._patient.size_of(OBJECTS + staged) != sealed.size:
                raise BlobMissing(detail=f"nothing staged for {key}")
            damaged = [other for other in self._patient.holders(sha256) if other != staged]
            self._patient.add_holder(sha256, staged)
            self._patient.set_key(key, staged, size=sealed.size, sha256=sha256)
            for other in damaged:  # keys that name one of these find the new holder by the digest
                self._patient.drop_holder(sha256, other)
                self._patient.delete(OBJECTS + other)
            self._parts.clean(staged)
        self._alive.discard(staged)

    def link(self, *, sha256: str, key: str) -> bool:
        """Give stored bytes one more key; False if there are none. Raises: StoreFull, StoreDown."""
        check_digest(sha256, key=key)
        with S3Faults():
            try:
                _name(self._records, sha256, key, spare=None)
            except BlobMissing:
                return False
        return True

    def has(self, sha256: str) -> bool:
        """Raises: StoreDown."""
        with S3Faults():
            return _holder(self._records, check_digest(sha256)) is not None

    def stat(self, key: str) -> BlobStat:
        """Raises: BlobMissing, StoreDown."""
        with S3Faults():
            named = self._named(key)
            for staged in self._candidates(key, named):
                size = self._records.size_of(OBJECTS + staged)
                if size is not None:
                    return BlobStat(size=size, modified=named.modified)
        raise BlobMissing(detail=key)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Read a blob or a range of it, straight from S3. Raises: BlobMissing, StoreDown."""
        with S3Faults():
            named = self._named(key)
            left = max(0, named.size - offset)
            for staged in self._candidates(key, named):
                try:
                    return self._read(
                        staged, offset=offset, length=left if length is None else min(length, left)
                    )
                except S3Fault as fault:
                    if fault.answer.status != NOT_FOUND:
                        raise
        raise BlobMissing(detail=key)

    def delete(self, key: str) -> None:
        """Forget the key. Raises: StoreDown."""
        with S3Faults():
            self._records.delete(BLOBS + check_key(key))

    def keys(self) -> Iterator[str]:
        """Raises: StoreDown."""
        with S3Faults():
            for found in self._records.list(BLOBS):
                try:
                    yield check_key(found.name)
                except NotFound:
                    continue  # an administrator's own object

    def collect(self, *, older_than_s: float, dry_run: bool) -> int:
        """Remove bytes that no key names; returns how many bytes that (would) free. Raises: StoreDown."""
        with S3Faults():
            return collect(
                self._records,
                alive=lambda: {upload.staged for upload in self._alive.uploads()},
                before=time.time() - older_than_s,
                dry_run=dry_run,
            )

    def uploads(self) -> Iterator[StagedUpload]:
        """The uploads that this machine began. Raises: StoreDown."""
        for upload in self._alive.uploads():
            with S3Faults():
                size = self._size_so_far(upload.staged)
            yield StagedUpload(staged=upload.staged, size=size, modified=upload.modified, held=upload.held)

    def sweep(self, *, parts_older_than_s: float, prefix: str = "") -> int:
        """Remove what dead processes of this machine left behind, and what any machine left a week ago.

        Raises: StoreDown.
        """
        with S3Faults():
            swept = self._alive.sweep(
                parts_older_than_s=parts_older_than_s, first=self._remove_remote, prefix=prefix
            )
            stale = time.time() - max(FOREIGN_STALE_S, parts_older_than_s)
            alive = {upload.staged for upload in self._alive.uploads()}
            for upload in list(self._multiparts.list(OBJECTS)):
                staged = upload.key.removeprefix(OBJECTS)
                if upload.started < stale and staged not in alive and staged.startswith(prefix):
                    self._multiparts.abort(upload.key, upload.id)
                    self._parts.clean(staged)
                    swept += 1
        return swept

    def check(self) -> str:
        """Make the bucket if need be; write, read, list and remove a probe. Raises: StoreDown, StoreFull."""
        probe = f"{STAGING}check-{secrets.token_hex(8)}"
        said = secrets.token_bytes(16)
        with S3Faults():
            self._records.write(probe, memoryview(said))
            try:
                if self._records.read(probe) != said or not list(self._records.list(probe)):
                    raise StoreDown(detail=f"{self._wire.where} does not give back what it was given")
                self._multiparts.abort(probe, self._multiparts.start(probe))
            finally:
                self._records.delete(probe)
        return f"S3 store at {self._wire.where}: reads, writes, lists and takes multipart uploads"

    def free_bytes(self) -> int | None:
        """S3 does not tell."""
        return None

    @property
    def least_part_bytes(self) -> int:
        """No part but the last may be smaller."""
        return LEAST_PART_BYTES

    @property
    def most_part_bytes(self) -> int:
        """No part may be larger."""
        return MOST_PART_BYTES

    def begin_direct(self, staged: str) -> None:
        """Begin a file that clients bring by themselves. Raises: StoreDown."""
        with S3Faults():
            self._direct.begin(check_staged(staged))

    def sign_part(self, staged: str, *, number: int, sha256: str) -> str:
        """A link that takes a part by PUT. Raises: BlobMissing, StoreDown."""
        with S3Faults():
            return self._direct.sign_part(check_staged(staged), number=number, sha256=sha256)

    def seal_direct(
        self, staged: str, *, total_size: int, part_size: int, etags: Mapping[int, str]
    ) -> SealedBlob:
        """Put the parts together, for good. Raises: BlobMissing, LengthMismatch, StoreDown."""
        with S3Faults():
            self._direct.seal(check_staged(staged), total_size=total_size, part_size=part_size, etags=etags)
        return SealedBlob(staged=staged, size=total_size)

    def sign_read(self, key: str, *, method: str, filename: str) -> str:
        """A link that reads a blob. Raises: BlobMissing, StoreDown."""
        with S3Faults():
            for staged in self._candidates(key, self._named(key)):
                size = self._records.size_of(OBJECTS + staged)
                if size is not None:
                    return self._direct.sign_read(staged, method=method, filename=filename, size=size)
        raise BlobMissing(detail=key)

    def close(self) -> None:
        """Close idle connections and threads."""
        self._multiparts.senders.shutdown()
        self._wire.close()

    def _named(self, key: str) -> Named:
        named = self._records.read_key(check_key(key))
        if named is None:
            raise BlobMissing(detail=key)
        return named

    def _candidates(self, key: str, named: Named) -> Iterator[str]:
        """The object that the key names, then those that the digest names: bytes may have come twice."""
        yield named.staged
        yield from (staged for staged in self._records.holders(digest_of(key)) if staged != named.staged)

    def _read(self, staged: str, *, offset: int, length: int) -> BinaryIO:
        raw = S3File(self._wire, OBJECTS + staged, offset=offset, length=length)
        return cast("BinaryIO", io.BufferedReader(raw, _READ_BUFFER_BYTES))

    def _size_so_far(self, staged: str) -> int:
        key = OBJECTS + staged
        pieces, _ = self._parts.kept(staged)
        small = sum(piece.size for piece in pieces if not piece.etag)
        sent = sum(self._multiparts.sent_bytes(upload) for upload in self._multiparts.list(key))
        return self._records.size_of(key) or sent + small

    def _remove(self, staged: str) -> None:
        self._remove_remote(staged)
        self._alive.discard(staged)

    def _remove_remote(self, staged: str) -> None:
        """All that S3 has of an upload, but for an object that was placed just before its process died."""
        self._multiparts.abort_all(OBJECTS + staged)
        self._parts.clean(staged)
        if self._records.size_of(OBJECTS + staged) is None:
            return
        if not any(found.name.endswith(f"/{staged}") for found in self._records.list(DIGESTS)):
            self._records.delete(OBJECTS + staged)


def _holder(records: S3Records, sha256: str) -> tuple[str, int] | None:
    """An object that is there and holds these bytes, and its size."""
    for staged in records.holders(sha256):
        size = records.size_of(OBJECTS + staged)
        if size is not None:
            return staged, size
    return None


def _name(records: S3Records, sha256: str, key: str, *, spare: str | None) -> tuple[bool, str]:
    """Name the holder of these bytes, or the ``spare`` object, which then holds them.

    Returns whether the key is new, and the holder.

    The key is written first and the holder looked at once more: ``collect`` may have taken it away.
    """
    new = False
    for _ in range(_TRIES):
        held = _holder(records, sha256)
        if held is not None:
            new |= records.add_key(key, held[0], size=held[1], sha256=sha256)
            held = _holder(records, sha256)
            if held is not None:
                return new, held[0]
        if spare is None:
            if new:
                records.delete(BLOBS + key)
            raise BlobMissing(detail=f"nothing staged or stored for {key}")
        records.add_holder(sha256, spare)
    raise StoreDown(detail=f"the bytes of {key} are collected again and again")
