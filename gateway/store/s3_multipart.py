"""Owns multipart uploads: their limits, their calls, and how the parts of one file go to S3."""

import http
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Final

from gateway.errors import StoreCorrupt
from gateway.store.asking import CarryingThreads
from gateway.store.s3 import PART_PATIENCE_S, S3Wire
from gateway.store.s3_answers import S3Fault, parse_xml, read_time
from gateway.store.s3_exchange import Body
from gateway.store.s3_memory import MIB, Buffers, Filled, PartMemory
from gateway.store.s3_reading import list_pages

# Limits of AWS, and of everything that imitates it: 5 MiB to 5 GiB per part but the last, 10,000 parts, 5 TiB.
MOST_PARTS: Final = 10_000
MOST_PART_BYTES: Final = 5 << 30
# With no size known, part sizes double every so many parts: 10,000 parts hold 5 TiB then.
_DOUBLE_EVERY: Final = 950
_MARGIN: Final = 0.95  # of the parts, when the size is known: the last ones may be cut shorter
_SENDERS: Final = 8
_PARTS_IN_FLIGHT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPart:
    """A part that S3 has acknowledged."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipart:
    """An upload that S3 knows of."""

    key: str
    id: str
    started: float


class S3Multiparts:
    """The multipart calls, and the threads that send parts."""

    def __init__(self, wire: S3Wire, buffers: Buffers) -> None:
        self.wire = wire
        self.buffers = buffers
        self.senders = CarryingThreads(_SENDERS, thread_name_prefix="s3-part")

    def start(self, key: str) -> str:
        """Raises: S3Fault, StoreDown."""
        answer = self.wire.request("POST", key, query={"uploads": ""}, patience_s=PART_PATIENCE_S)
        return parse_xml(answer.body).findtext("{*}UploadId") or ""

    def send(
        self, key: str, upload_id: str, number: int, body: Body, *, wanted: Callable[[], bool]
    ) -> SentPart:
        """Raises: S3Fault, StoreDown."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer = self.wire.request(
            "PUT", key, query=query, body=body, patience_s=PART_PATIENCE_S, wanted=wanted
        )
        return SentPart(number=number, etag=answer.headers.get("etag", ""), size=len(body))

    def put(self, key: str, body: Body) -> None:
        """A file of one request. Raises: S3Fault, StoreDown."""
        self.wire.request("PUT", key, body=body, patience_s=PART_PATIENCE_S)

    def complete(self, key: str, upload_id: str, parts: Sequence[SentPart]) -> None:
        """Make the object, and verify its size. Raises: S3Fault, StoreDown, StoreCorrupt."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{part.etag}</ETag></Part>"
            for part in sorted(parts, key=lambda part: part.number)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        try:
            self.wire.request(
                "POST", key, query={"uploadId": upload_id}, body=body, patience_s=PART_PATIENCE_S
            )
        except S3Fault as fault:
            # A first try may have got through although its answer was lost; the size below tells.
            if fault.answer.code != "NoSuchUpload":
                raise
        self.verify(key, sum(part.size for part in parts))

    def verify(self, key: str, size: int) -> None:
        """Raises: S3Fault, StoreDown, StoreCorrupt."""
        stored = self.wire.request("HEAD", key, patience_s=PART_PATIENCE_S).size
        if stored != size:
            raise StoreCorrupt(detail=f"{key}: {size} bytes sent, {stored} stored")

    def abort(self, key: str, upload_id: str) -> None:
        """Raises: S3Fault, StoreDown."""
        try:
            self.wire.request("DELETE", key, query={"uploadId": upload_id})
        except S3Fault as fault:
            if fault.answer.code != "NoSuchUpload" and fault.answer.status != http.HTTPStatus.NOT_FOUND:
                raise

    def abort_all(self, key: str) -> None:
        """Every upload to this very key. Raises: S3Fault, StoreDown."""
        for upload in list(self.list(key)):
            if upload.key == key:
                self.abort(key, upload.id)

    def list(self, prefix: str) -> Iterator[Multipart]:
        """Uploads in progress. MinIO lists them for a whole key only, not for a prefix of it.

        Raises: S3Fault, StoreDown.
        """
        markers = {"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}
        for page in list_pages(self.wire, {"uploads": "", "prefix": prefix}, next_markers=markers):
            for found in page.iterfind("{*}Upload"):
                yield Multipart(
                    key=found.findtext("{*}Key") or "",
                    id=found.findtext("{*}UploadId") or "",
                    started=read_time(found.findtext("{*}Initiated") or "1970-01-01T00:00:00Z"),
                )

    def parts(self, upload: Multipart) -> Iterator[SentPart]:
        """What S3 has of it, oldest first where a part was sent twice (SeaweedFS lists it twice then).

        Raises: S3Fault, StoreDown.
        """
        pages = list_pages(
            self.wire,
            {"uploadId": upload.id},
            next_markers={"NextPartNumberMarker": "part-number-marker"},
            key=upload.key,
        )
        found = [part for page in pages for part in page.iterfind("{*}Part")]
        for part in sorted(found, key=lambda part: part.findtext("{*}LastModified") or ""):
            yield SentPart(
                number=int(part.findtext("{*}PartNumber") or 0),
                etag=part.findtext("{*}ETag") or "",
                size=int(part.findtext("{*}Size") or 0),
            )

    def sent_bytes(self, upload: Multipart) -> int:
        """How much S3 has of it. Raises: S3Fault, StoreDown."""
        return sum(part.size for part in self.parts(upload))


def part_bytes_at(number: int, *, first: int, size_hint: int | None) -> int:
    """How large part ``number`` (from 1) of a file must be for the whole file to fit into 10,000 parts."""
    if size_hint is not None and number <= MOST_PARTS * _MARGIN:
        needed = -(-size_hint // int(MOST_PARTS * _MARGIN))
        return max(first, -(-needed // MIB) * MIB)
    return min(MOST_PART_BYTES, first << ((number - 1) // _DOUBLE_EVERY))


class PartSender:
    """The parts of one file on their way: filled by one thread, sent by others, kept until acknowledged.

    ``place`` tells number and size of the part that begins at a byte of this file. ``tail_bytes`` are held back
    from each part that is sent, so that no rest is ever too small to be a part (but a file that is).
    """

    def __init__(
        self,
        multiparts: S3Multiparts,
        key: str,
        *,
        upload_id: Callable[[], str],
        place: Callable[[int], tuple[int, int]],
        tail_bytes: int = 0,
    ) -> None:
        self._multiparts = multiparts
        self._key = key
        self._upload_id = upload_id
        self._place = place
        self._tail_bytes = tail_bytes
        self._memory: PartMemory | None = None
        self._filled = 0
        self._sent = 0
        self._futures: list[Future[SentPart]] = []
        self._starts: list[int] = []
        self._cancelled = False
        multiparts.buffers.join()
        self._joined = True

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._sent + self._filled

    def write(self, data: memoryview | bytes) -> None:
        """Append. Waits while the memory for parts is used up. Raises: S3Fault, StoreDown."""
        view = memoryview(data)
        at = 0
        while at < len(view):
            memory = self._memory or self._take()
            count = min(len(memory) - self._filled, len(view) - at)
            memory.write(view[at : at + count], self._filled)
            self._filled += count
            at += count
            if self._filled == len(memory):
                self.cut(len(memory) - self._tail_bytes)

    def cut(self, size: int) -> None:
        """Send the first ``size`` bytes of what is waiting as a part. Raises: S3Fault, StoreDown."""
        memory = self._memory
        if memory is None or not size:
            return
        number, _ = self._place(self._sent)
        upload_id = self._upload_id()
        # Kept here for a moment, and the part sent first: who takes memory for the next one before it is given back
        # holds twice as much.
        tail = memory.read(size, self._filled - size)
        start = self._sent
        self._sent += size
        self._memory = None
        self._filled = 0
        self._futures.append(self._multiparts.senders.submit(self._send, memory, size, number, upload_id))
        self._starts.append(start)
        self.write(tail)

    def rest(self) -> Body:
        """What is waiting and was not sent."""
        return b"" if self._memory is None else Filled(self._memory, self._filled)

    @property
    def parts(self) -> int:
        """How many parts were sent."""
        return len(self._futures)

    @property
    def filled(self) -> int:
        """How many bytes are waiting."""
        return self._filled

    def finish(self) -> list[tuple[int, SentPart]]:
        """Wait for what was sent: start and part, in order. Raises: S3Fault, StoreDown."""
        return [(start, future.result()) for start, future in zip(self._starts, self._futures, strict=True)]

    def close(self, *, timeout_s: float) -> bool:
        """Give the memory back and let go; False if parts are still on their way."""
        self._cancelled = True
        if self._memory is not None:
            self._multiparts.buffers.give_back(self._memory)
            self._memory = None
        if self._joined:
            self._joined = False
            self._multiparts.buffers.leave()
        return not wait(self._futures, timeout=timeout_s).not_done

    def _take(self) -> PartMemory:
        pending = [future for future in self._futures if not future.done()]
        if len(pending) >= _PARTS_IN_FLIGHT:
            wait(pending, return_when=FIRST_COMPLETED)
        for future in self._futures:
            if future.done():
                future.result()  # a part that failed fails the file
        _, size = self._place(self._sent)
        self._memory = self._multiparts.buffers.take(
            size + self._tail_bytes, entitled=lambda: all(future.done() for future in self._futures)
        )
        return self._memory

    def _send(self, memory: PartMemory, size: int, number: int, upload_id: str) -> SentPart:
        try:
            return self._multiparts.send(
                self._key, upload_id, number, Filled(memory, size), wanted=lambda: not self._cancelled
            )
        finally:
            self._multiparts.buffers.give_back(memory)
