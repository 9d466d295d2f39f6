"""Owns files that arrive in parts: what has arrived, the digest that grows with them, and the whole at the end.

Which parts are there is written beside the data folder, so that any process can go on after a restart. The whole
file's digest: ``running.py``.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.contract import Ticket
from gateway.errors import Conflict, DigestMismatch, LengthMismatch
from gateway.http.exchange import ClientExchange
from gateway.store.base import PartsWriter
from gateway.upload.intake import Received
from gateway.upload.lane import Lane, lanes_of
from gateway.upload.running import RunningDigests

if TYPE_CHECKING:
    from gateway.upload.handler import UploadResources


class PartJournal:
    """Which parts of which upload have arrived: one small JSON file for each upload, changed under its lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def _locked(self, upload: str) -> Iterator[Path]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{upload}.json"
        lock = os.open(self._folder / f"{upload}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(lock)

    def add(self, upload: str, number: int, size: int) -> int:
        """Note a part; returns the bytes of all parts so far. Blocks."""
        with self._locked(upload) as path:
            parts = self._read(path)
            parts[number] = size
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(parts))
            fresh.replace(path)
            return sum(parts.values())

    def drop(self, upload: str) -> None:
        """Forget an upload. Blocks."""
        for suffix in (".json", ".new", ".lock"):
            (self._folder / f"{upload}{suffix}").unlink(missing_ok=True)

    def sweep(self, *, older_than: float) -> int:
        """Forget uploads not touched since ``older_than`` (epoch seconds); returns how many. Blocks."""
        count = 0
        for path in self._folder.glob("*.json"):
            if path.stat().st_mtime < older_than:
                self.drop(path.stem)
                count += 1
        return count

    @staticmethod
    def _read(path: Path) -> dict[int, int]:
        try:
            return {int(number): int(size) for number, size in json.loads(path.read_text()).items()}
        except FileNotFoundError:
            return {}


class PartsIntake:
    """Receives the parts of library pushes."""

    def __init__(self, resources: "UploadResources", journal: PartJournal) -> None:
        self._resources = resources
        self._in_thread = resources.threads.run
        self._journal = journal
        self._running = RunningDigests()
        self._busy: set[tuple[str, int]] = set()
        self._arrived: dict[str, int] = {}

    async def take(
        self, exchange: ClientExchange, ticket: Ticket, *, offset: int, length: int, expected: tuple[str, ...]
    ) -> str:
        """Receive one part; returns its SHA-256. A part that is refused leaves the upload as it was.

        Raises: Conflict (the same part is being received), LengthMismatch, DigestMismatch, and what body and
        store raise.
        """
        key = (ticket.id, ticket.part_number)
        if key in self._busy:
            raise Conflict(f"Part {ticket.part_number} is being received already.")
        self._busy.add(key)
        try:
            return await self._receive(exchange, ticket, offset, length, expected)
        finally:
            self._busy.discard(key)

    async def _receive(
        self, exchange: ClientExchange, ticket: Ticket, offset: int, length: int, expected: tuple[str, ...]
    ) -> str:
        running = self._running.take(ticket.id, offset)
        writer = await self._in_thread(
            lambda: self._resources.store.open_part(ticket.id, offset=offset, total_size=ticket.size)
        )
        digest = hashlib.sha256()
        threads = self._resources.threads
        lanes = lanes_of(threads, length, digest=digest.update, write=writer.write)
        if running is not None:
            lanes.append(Lane(threads.digesting, running.digest.update))
        kept = False
        try:
            size = await self._fill(exchange, lanes, length)
            if size != length:
                raise LengthMismatch(f"The part must have {length} bytes; {size} arrived.")
            for promised in expected:
                if digest.hexdigest() != promised:
                    raise DigestMismatch(f"Part {ticket.part_number} arrived damaged. Push again.")
            await self._in_thread(lambda: writer.close(keep=True))
            kept = True
        finally:
            await self._leave(writer, lanes, kept=kept)
        if running is not None:
            running.offset = offset + length
            self._running.keep(ticket.id, running)
        arrived = await self._in_thread(lambda: self._journal.add(ticket.id, ticket.part_number, length))
        self._arrived[ticket.id] = arrived
        return digest.hexdigest()

    async def _fill(self, exchange: ClientExchange, lanes: list[Lane], length: int) -> int:
        size = 0
        async with aclosing(exchange.body.blocks(self._resources.pool)) as blocks:
            async for block, ranges in blocks:
                for start, end in ranges:
                    size += end - start
                    if size > length:
                        raise LengthMismatch(f"The part must have {length} bytes; more arrived.")
                    for lane in lanes:
                        lane.submit(block.view[start:end], block)
                    for lane in lanes:
                        await lane.has_room()
        for lane in lanes:
            await lane.finish()
        return size

    async def _leave(self, writer: PartsWriter, lanes: list[Lane], *, kept: bool) -> None:
        for lane in lanes:
            await lane.settle()
        if not kept:
            await self._in_thread(lambda: writer.close(keep=False))

    async def complete(self, ticket: Ticket) -> Received | None:
        """The whole file, sealed, once every part is there; None before. Raises: what the store raises."""
        if self._arrived.pop(ticket.id, 0) < ticket.size:
            return None
        sha256 = await self._in_thread(
            lambda: self._running.finish(self._resources.store, ticket.id, size=ticket.size)
        )
        sealed = await self._in_thread(
            lambda: self._resources.store.seal_parts(ticket.id, total_size=ticket.size)
        )
        return Received(sealed=sealed, digests={"sha256": sha256})

    async def forget(self, ticket: Ticket) -> None:
        """Leave nothing of this upload but what was placed."""
        self._running.forget(ticket.id)
        self._arrived.pop(ticket.id, None)
        await self._in_thread(lambda: self._journal.drop(ticket.id))
        await self._in_thread(lambda: self._resources.store.discard_staged(ticket.id))
