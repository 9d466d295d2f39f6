"""Owns pushes whose bytes go from the client to S3 without us: links, the proof afterwards, and links to pull by.

Nobody of ours has seen such bytes. So at the end of a push the parts are put together, after which no link can change
them; the whole is read back once and digested; then it becomes visible where it lies.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.contract import Commit, CommittedImage, Ticket, seal
from gateway.errors import BlobMissing, BodyTooLarge, ClientError, DigestMismatch
from gateway.store.base import DirectStore, SealedBlob
from gateway.store.keys import blob_key
from registry_core.model import Upload
from registry_core.registry import Registry
from registry_core.service import commits

_PIECE_BYTES: Final = 1 << 20


def store_of(registry: Registry) -> DirectStore | None:
    """The store, if clients are to be sent there."""
    storage = registry.settings.storage
    if storage.kind != "s3" or not storage.s3.direct:
        return None
    store = registry.store
    return store if isinstance(store, DirectStore) else None


def check_one_piece(store: DirectStore, size: int) -> None:
    """Raises: BodyTooLarge."""
    if size > store.most_part_bytes:
        limit = store.most_part_bytes >> 30
        raise BodyTooLarge(
            f"This registry takes images in one piece of at most {limit} GiB. Ask its administrator to allow"
            " uploads in parts (storage.s3.multipart_upload)."
        )


def deliver(
    registry: Registry,
    store: DirectStore,
    ticket: Ticket,
    uploads: Sequence[Upload],
    *,
    etags: Mapping[int, str],
) -> None:
    """Verify what came by the first of ``uploads`` that has all its bytes, and list it. Safe to repeat.

    Raises: BlobMissing (nothing is whole), LengthMismatch, DigestMismatch, StoreDown, and what a commit raises.
    """
    missing: BlobMissing | None = None
    for upload in uploads:
        try:
            sealed = store.seal_direct(
                upload.id, total_size=upload.size, part_size=upload.part_size, etags=etags
            )
        except BlobMissing as exc:
            missing = missing or exc
            continue
        _verify(registry, ticket, sealed)
        _list(registry, ticket, sealed)
        return
    raise missing or BlobMissing("The image has not arrived. Push again.")


def _verify(registry: Registry, ticket: Ticket, sealed: SealedBlob) -> None:
    """Raises: DigestMismatch (the bytes are gone then), StoreDown."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with registry.store.read_staged(sealed.staged) as file:
        while count := file.readinto(buffer):  # type: ignore[attr-defined] # every store's file has it
            digest.update(buffer[:count])
    if digest.hexdigest() != ticket.sha256:
        registry.store.discard_staged(sealed.staged)
        raise DigestMismatch(
            f"The bytes that arrived have the SHA-256 {digest.hexdigest()}, promised was {ticket.sha256}."
            " They were not kept; push again."
        )


def _list(registry: Registry, ticket: Ticket, sealed: SealedBlob) -> None:
    key = blob_key(ticket.entity, ticket.collection, ticket.container, ticket.sha256)
    new = registry.store.place(sealed, sha256=ticket.sha256, key=key)
    image = CommittedImage(sha256=ticket.sha256, size=sealed.size)
    try:
        commits.commit(registry, Commit(ticket=seal(registry.secret, ticket), images=(image,)))
    except ClientError:  # a refusal; after anything else the image may be listed all the same
        if new:
            registry.store.delete(key)
        raise
