"""Owns an upload front for tests: real connections, a memory store, a core that answers as told."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gateway.contract import Commit, Ticket, TicketKind, TicketQuestion, seal
from gateway.core_api import CommittedReference, CoreApi
from gateway.core_health import CoreHealth
from gateway.errors import CoreDown, GatewayError
from gateway.http.exchange import ClientExchange
from gateway.net.blocks import BlockPool
from gateway.outbox import Outbox
from gateway.resumable.handler import ResumableUpload
from gateway.resumable.resource import UploadRecords
from gateway.settings import Limits, Server
from gateway.store.base import BlobStore
from gateway.upload.handler import UploadResources, WebUpload
from gateway.upload.parts import PartJournal, PartsIntake
from gateway.upload.progress import ProgressBoard
from gateway.upload.threads import UploadThreads
from gateway.upload.transfer import Transfer
from tests.support.memory_store import MemoryStore
from tests.support.raw_server import RawServer, raw_server

SECRET = b"s" * 32


@dataclass(slots=True)
class ToldCore:
    """Grants every ticket and takes every commit, unless told otherwise; remembers what it heard."""

    questions: list[TicketQuestion] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    refusal: GatewayError | None = None
    commit_refusal: GatewayError | None = None
    max_bytes: int = 0
    kind: TicketKind = "web"
    settled: list[str] = field(default_factory=list)

    async def ask(self, question: TicketQuestion, *, request_id: str) -> tuple[Ticket, str]:
        self.questions.append(question)
        if self.refusal is not None:
            raise self.refusal
        entity, _, collection = question.collection.partition("/")
        ticket = Ticket(
            kind=self.kind,
            id=f"{len(self.questions):032x}",
            entity=entity,
            collection=collection,
            max_bytes=self.max_bytes,
        )
        return ticket, seal(SECRET, ticket)

    def settle(self, ticket: Ticket) -> None:
        self.settled.append(ticket.id)

    async def tell(self, commit: Commit, *, request_id: str) -> tuple[CommittedReference, ...]:
        if self.commit_refusal is not None:
            raise self.commit_refusal
        self.commits.append(commit)
        return tuple(
            CommittedReference(
                ref=f"{i.name}:{i.tag}", sha256=i.sha256, size=i.size, url=f"https://r/{i.name}"
            )
            for i in commit.images
        )


@dataclass(slots=True)
class UploadBench:
    """Everything that one test looks at."""

    server: RawServer
    store: MemoryStore
    core: ToldCore
    folder: Path
    resumable: ResumableUpload
    records: UploadRecords
    resources: UploadResources

    @property
    def keys(self) -> list[str]:
        return sorted(self.store.keys())

    @property
    def is_clean(self) -> bool:
        """Nothing in staging, no record that waits."""
        return not list(self.store.uploads()) and not list((self.folder / "outbox").glob("*.json"))


async def _well() -> bool:
    return True


@contextlib.asynccontextmanager
async def upload_bench(
    *,
    limits: Limits | None = None,
    core: ToldCore | None = None,
    settings: Server | None = None,
    tls: ssl.SSLContext | None = None,
    store: BlobStore | None = None,
    folder: Path | None = None,
) -> AsyncIterator[UploadBench]:
    """``POST /upload``, ``PUT /v2/transfers/…``, ``POST /v1/imagefile/…`` and ``/uploads/`` on a free port."""
    told, limits = core or ToldCore(), limits or Limits()
    store = store or MemoryStore()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(8) as threads:
        folder = folder or Path(name)
        health = CoreHealth(_well, is_own=False, hold_s=0.1, start_hold_s=0.1)
        outbox = Outbox(folder / "outbox", store, told, health, durable=False, patience_s=0.1)
        outbox.recover()
        resources = UploadResources(
            store=store,
            pool=BlockPool(8 << 20),
            threads=UploadThreads(threads, threads),
            core=cast(CoreApi, told),
            outbox=outbox,
            limits=limits,
            board=ProgressBoard(),
        )
        web = WebUpload(resources)
        transfer = Transfer(resources, PartsIntake(resources, PartJournal(folder / "parts")), SECRET)

        records = UploadRecords(folder / "resumable", durable=False)
        resumable = ResumableUpload(resources, records, SECRET, settings or Server())

        async def handle(exchange: ClientExchange) -> None:
            if exchange.head.path.startswith("/uploads"):
                await resumable.handle(exchange)
            elif exchange.head.method == "PUT":
                await transfer.handle_put(exchange)
            elif exchange.head.path.startswith("/v1/"):
                await transfer.handle_legacy(exchange)
            else:
                await web.handle(exchange)

        async with raw_server(handle, limits=limits, tls=tls) as server:
            watch = asyncio.get_running_loop().create_task(health.run())
            await health.wait_up(5)
            try:
                yield UploadBench(
                    server, cast(MemoryStore, store), told, folder, resumable, records, resources
                )
            finally:
                watch.cancel()
                await outbox.aclose()


def core_away() -> CoreDown:
    return CoreDown(detail="told so")
