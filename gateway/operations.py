"""Owns what operators ask the gateway under ``/-/``: alive, ready, metrics. Nobody else learns that it exists."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from gateway.core_health import CoreHealth
from gateway.errors import GatewayError, MethodNotAllowed, NotFound
from gateway.forward.circuits import Circuits
from gateway.http.exchange import ClientExchange
from gateway.http.reply import Reply, json_reply
from gateway.store.base import BlobStore
from gateway.upload.progress import ProgressBoard, progress_id_of

NO_STORE: Final = ("cache-control", "no-store")
STORE_CHECK_S: Final = 5.0  # the store's proof by use is not repeated more often than this


class Operations:
    """``/-/healthz``, ``/-/readyz``, ``/-/metrics``, ``/-/uploads``, ``/-/upstreams``."""

    def __init__(
        self,
        health: CoreHealth,
        store: BlobStore,
        board: ProgressBoard,
        circuits: Circuits,
        render_metrics: Callable[[], tuple[str, bytes]],
    ) -> None:
        """``render_metrics`` gives the content type and the text of the metrics page. It blocks briefly."""
        self._health = health
        self._store = store
        self._board = board
        self._circuits = circuits
        self._render_metrics = render_metrics
        self._checked_at = float("-inf")
        self._store_problem = ""

    async def handle(self, exchange: ClientExchange, page: str) -> None:
        """Raises: NotFound, also for everybody who is no administrator; MethodNotAllowed."""
        if page == "uploads" and (progress_id := progress_id_of(exchange)):
            await self._answer_progress(exchange, progress_id)
            return
        if not exchange.peer.is_admin:
            raise NotFound
        if exchange.head.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(headers=(("allow", "GET, HEAD"),))
        match page:
            case "healthz":
                reply = json_reply(200, {"status": "ok"}, NO_STORE)
            case "readyz":
                reply = await self._ready()
            case "metrics":
                kind, body = await asyncio.to_thread(self._render_metrics)
                reply = Reply(status=200, fields=(("content-type", kind),), body=body)
            case "uploads":
                running = await asyncio.to_thread(self._board.all)
                reply = json_reply(200, {"uploads": [asdict(known) for known in running]}, NO_STORE)
            case "upstreams":
                reply = json_reply(200, {"upstreams": self._circuits.report()}, NO_STORE)
            case _:
                raise NotFound
        await exchange.reply(reply)

    async def _answer_progress(self, exchange: ClientExchange, progress_id: str) -> None:
        """For the page that sent the upload, under an id of its own choice; the words of nginx's progress module."""
        known = await asyncio.to_thread(self._board.find, progress_id)
        value = (
            {"state": "starting"}
            if known is None
            else {"state": "uploading", "received": known.received, "size": known.size}
        )
        await exchange.reply(json_reply(200, value, NO_STORE))

    async def _ready(self) -> Reply:
        reasons = {}
        if not self._health.is_up:
            reasons["core"] = f"the registry core is {self._health.state}"
        if problem := await self._check_store():
            reasons["store"] = problem
        status = 503 if reasons else 200
        value = {"status": "not ready" if reasons else "ready", "reasons": reasons}
        return json_reply(status, value, NO_STORE)

    async def _check_store(self) -> str:
        if time.monotonic() - self._checked_at > STORE_CHECK_S:
            try:
                await asyncio.to_thread(self._store.check)
                self._store_problem = ""
            except GatewayError as exc:
                self._store_problem = exc.detail or exc.message
            self._checked_at = time.monotonic()
        return self._store_problem
