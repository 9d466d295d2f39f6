"""Owns files that clients bring to S3, and fetch from it, by themselves: signed links, and the end of such a file.

Every link for bytes is one for a part of a multipart upload, also where the whole file comes in one piece: such a link
is dead once the upload is completed. A link to the object itself would let its holder replace, until it expires, what
was verified.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from gateway.errors import BlobMissing, LengthMismatch
from gateway.store.disk_staging import Staging
from gateway.store.s3_multipart import Multipart, SentPart
from gateway.store.s3_parts import S3Parts
from gateway.store.s3_records import OBJECTS

# A pull asks again and again with one link: it must last as long as a slow client takes.
_SLOWEST_BYTES_PER_S: Final = 1 << 20


class S3Direct:
    """Links for one bucket. ``expire_s`` is how long a link works."""

    def __init__(self, parts: S3Parts, alive: Staging, *, expire_s: int) -> None:
        self._parts = parts
        self._multiparts = parts.multiparts
        self._alive = alive
        self._expire_s = expire_s

    def begin(self, staged: str) -> None:
        """Raises: S3Fault, StoreDown."""
        self._touch(staged)
        self._parts.upload_id(staged)

    def sign_part(self, staged: str, *, number: int, sha256: str) -> str:
        """Raises: BlobMissing, S3Fault, StoreDown."""
        upload = self._upload(staged)
        self._touch(staged)
        return self._multiparts.wire.signer().sign(
            "PUT",
            upload.key,
            query={"partNumber": str(number), "uploadId": upload.id},
            expires_s=self._expire_s,
            now=datetime.now(UTC),
            sha256=sha256,
        )

    def seal(self, staged: str, *, total_size: int, part_size: int, etags: Mapping[int, str]) -> None:
        """Raises: BlobMissing, LengthMismatch, S3Fault, StoreDown, StoreCorrupt."""
        self._touch(staged)
        if self._parts.records.size_of(OBJECTS + staged) is not None:
            self._multiparts.verify(OBJECTS + staged, total_size)
            return
        upload = self._upload(staged)
        chosen = choose_parts(self._multiparts.parts(upload), etags)
        check_parts(chosen, total_size=total_size, part_size=part_size)
        self._multiparts.complete(upload.key, upload.id, list(chosen.values()))

    def sign_read(self, staged: str, *, method: str, filename: str, size: int) -> str:
        """Raises: StoreDown."""
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        return self._multiparts.wire.signer().sign(
            method,
            OBJECTS + staged,
            query={
                "response-content-disposition": disposition,
                "response-content-type": "application/octet-stream",
            },
            expires_s=max(self._expire_s, size // _SLOWEST_BYTES_PER_S),
            now=datetime.now(UTC),
        )

    def _upload(self, staged: str) -> Multipart:
        """The one upload of this file. Asked each time: an answer shows that S3 is there, and with which keys."""
        key = OBJECTS + staged
        begun = [upload for upload in self._multiparts.list(key) if upload.key == key]
        if not begun:
            raise BlobMissing(detail=f"no upload {staged} is under way")
        return min(begun, key=lambda upload: (upload.started, upload.id))

    def _touch(self, staged: str) -> None:
        """Say on this machine that somebody goes on with it: the sweep leaves it alone for a day."""
        record = self._alive.open_part(staged, offset=0, total_size=0)
        try:
            record.write(b".")
        finally:
            record.close(keep=False)


def choose_parts(listed: Iterable[SentPart], etags: Mapping[int, str]) -> dict[int, SentPart]:
    """One part for each number: the one whose ETag the client was told, else the newest. Pure."""
    chosen: dict[int, SentPart] = {}
    for part in listed:
        wanted = etags.get(part.number, "").strip('"')
        held = chosen.get(part.number)
        if held is None or not wanted or held.etag.strip('"') != wanted:
            chosen[part.number] = part
    return dict(sorted(chosen.items()))


def check_parts(parts: Mapping[int, SentPart], *, total_size: int, part_size: int) -> None:
    """Every part is there with the size it must have. Pure. Raises: BlobMissing, LengthMismatch."""
    total = max(1, -(-total_size // part_size))
    for number in range(1, total + 1):
        expected = min(part_size, total_size - (number - 1) * part_size)
        part = parts.get(number)
        if part is None:
            raise BlobMissing(f"Part {number} of {total} has not arrived. Push again.")
        if part.size != expected:
            raise LengthMismatch(f"Part {number} has {part.size} bytes, not {expected}. Push again.")
    if len(parts) > total:
        raise LengthMismatch(f"{len(parts)} parts arrived, {total} were promised. Push again.")
