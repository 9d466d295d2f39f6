"""Owns the end of an upload: sealed, committed, and its answer kept. Whatever crashes between is done again."""

import hashlib
import json
import logging
import secrets
from dataclasses import replace
from typing import Final

from gateway.contract import Commit, CommittedImage, Ticket, open_ticket
from gateway.errors import (
    BlobMissing,
    CoreRefused,
    DigestMismatch,
    InconsistentLength,
    StoreCorrupt,
    StoreError,
)
from gateway.outbox import Committed, Outcome, Pending, Refused
from gateway.outbox_records import Delivery
from gateway.resumable.append import copy_staged
from gateway.resumable.resource import Answer, Upload, UploadRecords
from gateway.store.base import SealedBlob
from gateway.upload.handler import UploadResources, images_value, make_placement
from gateway.upload.intake import Received
from gateway.upload.running import READ_BYTES, RunningDigests

log = logging.getLogger(__name__)

PENDING: Final = 202
_FIRST_REFUSAL: Final = 400


class Finish:
    """Makes images of uploads that are whole."""

    def __init__(
        self, resources: UploadResources, records: UploadRecords, running: RunningDigests, secret: bytes
    ) -> None:
        self._resources = resources
        self._in_thread = resources.threads.run
        self._records = records
        self._running = running
        self._secret = secret

    async def finish(self, upload: Upload, *, request_id: str) -> Upload:
        """The upload with its answer. By its holder; may be repeated after any crash.

        Raises: DigestMismatch, StoreError, BlobMissing (nothing is left of it).
        """
        if upload.is_partial:
            return await self._save(replace(upload, answer=Answer(status=201)))
        ticket = self.ticket_of(upload)
        outcome = await self._in_thread(lambda: self._resources.outbox.status(ticket.id))
        if outcome is None:
            upload, sealed = await self._in_thread(lambda: self._seal(upload))
            outcome = await self.commit(upload, ticket, sealed, request_id=request_id)
        return await self._save(replace(upload, answer=answer_of(outcome)))

    async def refresh(self, upload: Upload) -> Upload:
        """The same upload; what was pending may have been decided meanwhile."""
        if upload.answer is None or upload.answer.status != PENDING:
            return upload
        outcome = await self._in_thread(lambda: self._resources.outbox.status(self.ticket_of(upload).id))
        if outcome is None or isinstance(outcome, Pending):
            return upload
        return await self._save(replace(upload, answer=answer_of(outcome)))

    async def commit(
        self, upload: Upload, ticket: Ticket, sealed: SealedBlob, *, request_id: str
    ) -> Committed | Pending | Refused:
        """Have it placed and told. Raises: StoreError, BlobMissing (nothing is left of it)."""
        received = Received(sealed=sealed, digests={"sha256": upload.sha256})
        image = CommittedImage(
            sha256=upload.sha256,
            size=sealed.size,
            name=upload.name,
            tag=upload.tag,
            filename=upload.filename,
            description=upload.description,
        )
        delivery = Delivery(
            ticket_id=ticket.id,
            commit=Commit(ticket=upload.ticket, images=(image,)),
            placements=(make_placement(ticket, upload.name, received),),
        )
        try:
            return await self._resources.outbox.commit(
                delivery, request_id=request_id, may_wait_for_store=True
            )
        except CoreRefused as exc:
            return Refused(status=exc.status, message=exc.message)
        except (StoreError, BlobMissing):
            await self._in_thread(lambda: self._records.remove(upload.id))
            raise

    async def void(self, upload: Upload) -> None:
        """More came than was said: the IETF protocol makes such an upload invalid. Raises: InconsistentLength."""
        await self.forget(upload)
        raise InconsistentLength("The content goes beyond the upload's length; the upload is void.")

    async def forget(self, upload: Upload) -> None:
        """Leave nothing of an upload but what it has become."""
        await self._in_thread(lambda: self._forget(upload))

    def ticket_of(self, upload: Upload) -> Ticket:
        """What the core permitted."""
        return open_ticket(self._secret, upload.ticket, now=None)

    # -- on a worker thread -----------------------------------------------------------------------------------

    def _forget(self, upload: Upload) -> None:
        self._running.forget(upload.id)
        if upload.answer is None or upload.is_partial:
            self._resources.store.discard_staged(upload.id)
        self._records.remove(upload.id)

    def _seal(self, upload: Upload) -> tuple[Upload, SealedBlob]:
        size = upload.offset
        if not size:
            return self._copied(upload, 0)
        try:
            sealed = self._resources.store.seal_parts(upload.id, total_size=size)
        except BlobMissing:
            if not upload.sha256:
                self._records.remove(upload.id)
                raise
            sealed = SealedBlob(staged=upload.id, size=size)  # placed before a crash; placing again proves it
        except StoreCorrupt as exc:
            log.info("%s is longer than it should be, its beginning is copied: %s", upload.id, exc)
            return self._copied(upload, size)
        if upload.sha256:
            return upload, sealed
        sha256 = self._running.finish(self._resources.store, upload.id, size=size)
        self._verify(upload, sha256)
        return self._records.save(replace(upload, sha256=sha256)), sealed

    def _copied(self, upload: Upload, size: int) -> tuple[Upload, SealedBlob]:
        """A file of its own, for what has no parts, or refused bytes behind its end."""
        staged = f"{upload.id}-{secrets.token_hex(4)}"
        sha256, _ = copy_staged(self._resources.store, ((upload.id, size),), staged)
        self._verify(upload, sha256)
        saved = self._records.save(replace(upload, sha256=sha256))
        self._resources.store.discard_staged(upload.id)
        return saved, SealedBlob(staged=staged, size=size)

    def _verify(self, upload: Upload, sha256: str) -> None:
        for name, promised in upload.repr_digest:
            found = sha256 if name == "sha256" else self._read_digest(upload, name)
            if found != promised:
                self._resources.store.discard_staged(upload.id)
                self._records.remove(upload.id)
                raise DigestMismatch(
                    f"The file has the {name} {found}, promised was {promised}. Start again."
                )

    def _read_digest(self, upload: Upload, name: str) -> str:
        digest = hashlib.new(name, usedforsecurity=False)
        with self._resources.store.read_staged(upload.id) as file:
            left = upload.offset
            while left and (data := file.read(min(READ_BYTES, left))):
                digest.update(data)
                left -= len(data)
        return digest.hexdigest()

    async def _save(self, upload: Upload) -> Upload:
        return await self._in_thread(lambda: self._records.save(upload))


def require_accepted(upload: Upload) -> None:
    """Raises: CoreRefused, once more, if the core refused the upload at its end."""
    if upload.answer is not None and upload.answer.status >= _FIRST_REFUSAL:
        raise CoreRefused(upload.answer.status, upload.answer.body)


def answer_of(outcome: Outcome) -> Answer:
    """What is kept of an outcome."""
    match outcome:
        case Committed(images=images):
            return Answer(
                status=201,
                location=images[0].url,
                body=json.dumps(images_value(images), separators=(",", ":")),
                ref=images[0].ref,
                sha256=images[0].sha256,
            )
        case Pending(status_path=path):
            body = json.dumps({"data": {"status": "pending", "url": path}}, separators=(",", ":"))
            return Answer(status=PENDING, location=path, body=body)
        case Refused(status=status, message=message):
            return Answer(status=status, body=message)
