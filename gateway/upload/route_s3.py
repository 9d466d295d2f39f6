"""Owns the place of an upload route in S3: files that a backend takes over by their ``s3://BUCKET/KEY``.

What lies under the route's prefix:

``NAME``
    whole files. S3 shows an object only when it is whole, so files need no other place while they arrive. NAME is
    random and is used once.

Which uploads are alive is told by locked files in ``spool``, one folder for each place: S3 cannot tell a slow upload
from a dead one. A name there is of a file that no backend was told of, and is swept once its process is gone.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.errors import BlobMissing, StoreError
from gateway.settings import S3
from gateway.store.base import StagedUpload
from gateway.store.disk_staging import Staging
from gateway.store.s3 import PART_PATIENCE_S, S3Wire
from gateway.store.s3_answers import S3Faults
from gateway.store.s3_memory import Buffers
from gateway.store.s3_multipart import Multipart, S3Multiparts
from gateway.store.s3_records import S3Records
from gateway.store.s3_upload import S3Writer
from gateway.upload.route_store import RouteWriter

# Uploads that no file on this machine tells of may belong to another gateway at the same place.
FOREIGN_STALE_S: Final = 7 * 86400.0
_NAME: Final = re.compile(r"[0-9a-f]{32}")


class S3RouteStore:
    """Files of one route, like a ``RouteStore``. Making one neither dials nor fails."""

    def __init__(self, settings: S3, *, prefix: str, spool: Path, buffers: Buffers) -> None:
        self._bucket = settings.bucket
        self._prefix = prefix
        self.wire = S3Wire(settings)
        self._records = S3Records(self.wire, patience_s=PART_PATIENCE_S)
        self._multiparts = S3Multiparts(self.wire, buffers)
        self._alive = Staging(spool, reserve_bytes=0, fsync=False)

    @property
    def buffers(self) -> Buffers:
        """The memory of what is on its way, which may be shared."""
        return self._multiparts.buffers

    @property
    def waits_for_disk(self) -> bool:
        """Sealing waits for the network."""
        return True

    def require_up(self, *, anew: bool = False) -> None:
        """Raises: StoreDown, at once if S3 does not answer, or refuses our keys."""
        self.wire.require_up(self._prefix, anew=anew)

    def create(self, staged: str, *, size_hint: int | None) -> RouteWriter:
        """Begin a file. ``staged`` is its new, unguessable name.

        Raises: StoreDown, at once if S3 does not answer.
        """
        self.require_up()
        record = self._alive.create(staged, size_hint=None)
        writer = S3Writer(
            self._multiparts, record, folder=self._prefix, size_hint=size_hint, remove=self._remove
        )
        return RouteWriter(writer, publish=self._alive.discard, remove=self.remove)

    def path_of(self, name: str) -> str:
        """How the backend finds a whole file of this name."""
        return f"s3://{self._bucket}/{self._key_of(name)}"

    def remove(self, name: str) -> None:
        """Remove a whole file, if the backend has not taken it. Never raises; if S3 is down, the sweep does it."""
        with suppress(StoreError, OSError):
            self._alive.create(name, size_hint=None).abandon()
        with suppress(StoreError, BlobMissing), S3Faults():
            self._remove(name)

    def sweep(self, *, older_than_s: float) -> int:
        """Remove what dead processes left behind, and whole files older than this (0 = none); returns how many.

        Raises: StoreDown.
        """
        with S3Faults():
            removed = self._alive.sweep(parts_older_than_s=0, first=self._remove_remote)
            removed += self._sweep_foreign()
            if older_than_s:
                removed += self._sweep_old(before=time.time() - older_than_s)
        return removed

    def uploads(self) -> list[Multipart]:
        """What S3 has of files that are not whole yet, whoever sends them. Raises: S3Fault, StoreDown."""
        found = list(self._multiparts.list(self._prefix))
        return [upload for upload in found if _NAME.fullmatch(upload.key.removeprefix(self._prefix))]

    def incoming(self) -> Iterator[StagedUpload]:
        """The files that this machine began and that are not handed over. Raises: StoreDown."""
        for upload in self._alive.uploads():
            key = self._key_of(upload.staged)
            with S3Faults():
                # Asked key by key: MinIO does not list what is under way below a prefix.
                sent = sum(self._multiparts.sent_bytes(begun) for begun in self._multiparts.list(key))
                size = self._records.size_of(key) or sent
            yield StagedUpload(staged=upload.staged, size=size, modified=upload.modified, held=upload.held)

    def free_bytes(self) -> int | None:
        """S3 does not tell."""
        return None

    def take_keys(self, settings: S3) -> None:
        """Go on with other keys; nothing under way is disturbed."""
        self.wire.take_keys(settings)

    def close(self) -> None:
        """Close idle connections and threads."""
        self._multiparts.senders.shutdown()
        self.wire.close()

    def _key_of(self, name: str) -> str:
        return self._prefix + name

    def _remove(self, name: str) -> None:
        self._remove_remote(name)
        self._alive.discard(name)

    def _remove_remote(self, name: str) -> None:
        key = self._key_of(name)
        self._multiparts.abort_all(key)
        self._records.delete(key)

    def _sweep_foreign(self) -> int:
        """Uploads that any machine left a week ago."""
        alive = {upload.staged for upload in self._alive.uploads()}
        stale = time.time() - FOREIGN_STALE_S
        swept = 0
        for upload in self.uploads():
            if upload.key.removeprefix(self._prefix) not in alive and upload.started < stale:
                self._multiparts.abort(upload.key, upload.id)
                swept += 1
        return swept

    def _sweep_old(self, *, before: float) -> int:
        old = [
            found.name
            for found in self._records.list(self._prefix)
            if found.modified < before and _NAME.fullmatch(found.name)
        ]
        for name in old:
            self._records.delete(self._key_of(name))
        return len(old)


def open_s3_route_store(place: str, settings: S3, *, spool: Path, buffers: Buffers) -> S3RouteStore:
    """The store at ``place``, which reads BUCKET or BUCKET/PREFIX."""
    bucket, _, prefix = place.partition("/")
    return S3RouteStore(
        settings.model_copy(update={"bucket": bucket}),
        prefix=f"{prefix}/" if prefix else "",
        spool=spool / place.replace("/", "+"),  # which no place contains
        buffers=buffers,
    )
