"""Owns files that come into S3 in several requests, over restarts and in any order.

Each request becomes pieces. A piece that is large enough is a part of the one S3 upload of the file, numbered by where
it begins; a smaller one (S3 refuses parts below 5 MiB) is an object of its own until its neighbour comes. What a
request brought counts once its list of pieces is written. The pieces are put together when the file is sealed.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from gateway.errors import BlobMissing, StoreCorrupt
from gateway.store.disk_staging import DiskPartsWriter
from gateway.store.s3_answers import S3Faults
from gateway.store.s3_memory import LEAST_PART_BYTES, MIB
from gateway.store.s3_multipart import MOST_PARTS, PartSender, S3Multiparts, SentPart
from gateway.store.s3_records import OBJECTS, STAGING, S3Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of the file from ``start``; ``etag`` "" = a small object of its own, else part ``number``."""

    start: int
    size: int
    number: int = 0
    etag: str = ""

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.start + self.size


class S3Parts:
    """The files that come in several requests."""

    def __init__(self, multiparts: S3Multiparts, records: S3Records) -> None:
        self.multiparts = multiparts
        self.records = records
        self._starting = threading.Lock()

    def upload_id(self, staged: str) -> str:
        """The one upload of this file, begun by whoever comes first. Raises: S3Fault, StoreDown."""
        key = OBJECTS + staged
        with self._starting:
            begun = [upload for upload in self.multiparts.list(key) if upload.key == key]
            if begun:
                return min(begun, key=lambda upload: (upload.started, upload.id)).id
            return self.multiparts.start(key)

    def kept(self, staged: str) -> tuple[list[Piece], int]:
        """The pieces that count, by their start, and the size that the whole file shall have.

        Raises: S3Fault, StoreDown.
        """
        prefix = f"{STAGING}{staged}/list-"
        lists = list(self.records.list(prefix))
        # A push of 50 GB has 800 lists: one after the other they would take a second to read.
        texts = self.multiparts.senders.map(self.records.read, [prefix + found.name for found in lists])
        newest: dict[int, tuple[float, Piece]] = {}
        total = -1
        for found, text in zip(lists, texts, strict=True):
            said = json.loads(text)
            total = said["total"]
            for piece in (Piece(**values) for values in said["pieces"]):
                other = newest.get(piece.start)
                # Sent again, or grown by what came behind it; S3 tells no time below a second.
                if other is None or (found.modified, piece.size) > (other[0], other[1].size):
                    newest[piece.start] = (found.modified, piece)
        return sorted((piece for _, piece in newest.values()), key=lambda piece: piece.start), total

    def small_before(self, staged: str, offset: int) -> Piece | None:
        """The small piece that ends at this byte. Raises: S3Fault, StoreDown."""
        for found in self.records.list(f"{STAGING}{staged}/small-"):
            start = int(found.name, 16)
            if found.size and start + found.size == offset:
                return Piece(start=start, size=found.size)
        return None

    def assemble(self, staged: str, *, total_size: int | None) -> int:
        """Make the object out of the pieces, unless it is there; its size.

        Raises: BlobMissing (no parts), StoreCorrupt (parts are missing), S3Fault, StoreDown.
        """
        key = OBJECTS + staged
        size = self.records.size_of(key)
        if size is None:
            pieces, promised = self.kept(staged)
            if not pieces:
                raise BlobMissing(detail=f"no parts named {staged}")
            chain = _chain(pieces, promised if total_size is None else total_size)
            size = chain[-1].end
            self._join(staged, chain)
        if total_size not in {None, size}:
            raise StoreCorrupt(detail=f"parts {staged}: {size} bytes, {total_size} expected")
        return size

    def clean(self, staged: str) -> None:
        """Remove pieces and lists. Raises: S3Fault, StoreDown."""
        prefix = f"{STAGING}{staged}/"
        for found in list(self.records.list(prefix)):
            self.records.delete(prefix + found.name)

    def small(self, staged: str, piece: Piece) -> bytes:
        """The bytes of a small piece. Raises: S3Fault, StoreDown."""
        return self.records.read(small_name(staged, piece.start))

    def _join(self, staged: str, chain: Sequence[Piece]) -> None:
        key = OBJECTS + staged
        least = least_piece_bytes(chain[-1].end)
        if not any(piece.etag for piece in chain) and chain[-1].end <= least:
            self.multiparts.put(key, memoryview(b"".join(self.small(staged, piece) for piece in chain)))
            self.multiparts.verify(key, chain[-1].end)
            return
        upload_id = self.upload_id(staged)
        parts: list[SentPart] = []
        waiting = bytearray()
        start = 0
        for piece in chain:
            if not piece.etag:
                start = start if waiting else piece.start
                waiting += self.small(staged, piece)
            if waiting and (piece.etag or len(waiting) >= least or piece is chain[-1]):
                if piece is not chain[-1] and len(waiting) < least:
                    detail = f"parts {staged}: {len(waiting)} bytes at {start} are too few for S3"
                    raise StoreCorrupt("Send the parts of this file again, in order.", detail=detail)
                parts.append(self._send(key, upload_id, number_at(start, chain[-1].end), bytes(waiting)))
                waiting.clear()
            if piece.etag:
                parts.append(SentPart(number=piece.number, etag=piece.etag, size=piece.size))
        self.multiparts.complete(key, upload_id, parts)

    def _send(self, key: str, upload_id: str, number: int, body: bytes) -> SentPart:
        return self.multiparts.send(key, upload_id, number, memoryview(body), wanted=lambda: True)


class S3PartsWriter:
    """One request's share of a file."""

    def __init__(
        self, parts: S3Parts, record: DiskPartsWriter, staged: str, *, offset: int, total_size: int
    ) -> None:
        self._parts = parts
        self._record = record
        self._staged = staged
        self._offset = offset
        self._total_size = total_size
        self._upload_id = ""
        self._closed = False
        before = parts.small_before(staged, offset) if offset else None  # they become one
        rest = b"" if before is None else parts.small(staged, before)
        self._start = offset - len(rest)
        self._sender = PartSender(
            parts.multiparts,
            OBJECTS + staged,
            upload_id=self._begin,
            place=self._place,
            tail_bytes=least_piece_bytes(total_size),
        )
        try:
            self._sender.write(rest)
        except BaseException:
            self._sender.close(timeout_s=0)
            raise

    def write(self, data: memoryview | bytes) -> None:
        """Append to the part. Raises: StoreFull, StoreDown."""
        with S3Faults():
            self._sender.write(data)

    def close(self, *, keep: bool) -> None:
        """Let go; with ``keep`` the bytes count. Raises: StoreFull, StoreDown."""
        if self._closed:
            return
        self._closed = True
        try:
            if keep:
                with S3Faults():
                    self._keep()
                self._record.write(b".")  # its age is that of the last part
        finally:
            self._sender.close(timeout_s=0)
            self._record.close(keep=False)

    def _keep(self) -> None:
        end = self._start + self._sender.size
        small: list[Piece] = []
        if 0 < self._sender.filled < least_piece_bytes(self._total_size):
            rest = self._sender.rest()
            small = [Piece(start=end - len(rest), size=len(rest))]
            self._parts.records.write(small_name(self._staged, end - len(rest)), rest)
        else:
            self._sender.cut(self._sender.filled)
        pieces = [
            Piece(start=self._start + start, size=part.size, number=part.number, etag=part.etag)
            for start, part in self._sender.finish()
        ] + small
        said = {"total": self._total_size, "pieces": [asdict(piece) for piece in pieces]}
        self._parts.records.write(
            f"{STAGING}{self._staged}/list-{self._offset:016x}", json.dumps(said).encode()
        )

    def _begin(self) -> str:
        self._upload_id = self._upload_id or self._parts.upload_id(self._staged)
        return self._upload_id

    def _place(self, start: int) -> tuple[int, int]:
        size = max(self._parts.multiparts.buffers.fair_part_bytes(), least_piece_bytes(self._total_size))
        return number_at(self._start + start, self._total_size), size


def least_piece_bytes(total_size: int) -> int:
    """The smallest piece that is a part: so that numbers by position stay below 10,000."""
    return max(LEAST_PART_BYTES, -(-total_size // (MOST_PARTS - 1) // MIB) * MIB)


def number_at(start: int, total_size: int) -> int:
    """The number of the part that begins there; pieces at least that long never share one."""
    return 1 + start // least_piece_bytes(total_size)


def small_name(staged: str, start: int) -> str:
    """The object of a small piece."""
    return f"{STAGING}{staged}/small-{start:016x}"


def _chain(pieces: Sequence[Piece], total_size: int) -> list[Piece]:
    """Pieces that follow one another from the first byte to the last. Raises: StoreCorrupt."""
    at_start = {piece.start: piece for piece in pieces}
    chain: list[Piece] = []
    at = 0
    while at < total_size or not chain:
        found = at_start.get(at)
        if found is None or (not found.size and total_size):
            raise StoreCorrupt(detail=f"parts: nothing at byte {at} of {total_size}")
        chain.append(found)
        at = found.end
    if at != total_size:
        raise StoreCorrupt(detail=f"parts: {at} bytes, {total_size} expected")
    return chain
