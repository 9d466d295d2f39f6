"""Owns what is known of uploads while they run: who, how much, how fast. Progress is counted where bytes arrive.

Worker processes tell each other through small files, written ten times a second while uploads run.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from gateway.http.exchange import ClientExchange

PROGRESS_ID_HEADER: Final = "x-progress-id"
_PROGRESS_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,128}")  # shorter ones could be guessed
STALE_S: Final = 10.0  # a worker that has not written for so long is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One upload. Sizes in bytes, -1 = unknown; ``rate`` in bytes/s; times in seconds."""

    request_id: str
    progress_id: str
    client: str
    path: str
    received: int
    size: int
    seconds: float
    rate: float


class ProgressBoard:
    """The uploads of this process and, with ``folder``, of its fellow workers."""

    def __init__(self, folder: Path | None = None) -> None:
        self._running: dict[str, ClientExchange] = {}
        self._folder = folder
        self._file = None if folder is None else folder / f"{os.getpid()}.json"

    def __len__(self) -> int:
        return len(self._running)

    def add(self, exchange: ClientExchange) -> None:
        """An upload begins."""
        self._running[exchange.request_id] = exchange

    def remove(self, exchange: ClientExchange) -> None:
        """An upload ended, however."""
        self._running.pop(exchange.request_id, None)

    def all(self) -> list[Progress]:
        """Every upload that runs. Blocks briefly where there are fellow workers."""
        return [*self._own(), *self._others()]

    def find(self, progress_id: str) -> Progress | None:
        """The upload that its client gave this id. Whoever knows the id may ask, as with nginx's module."""
        if not _PROGRESS_ID.fullmatch(progress_id):
            return None
        return next((known for known in self.all() if known.progress_id == progress_id), None)

    def share(self) -> None:
        """Let fellow workers know. Blocks briefly."""
        if self._file is None or (not self._running and not self._file.exists()):
            return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps([asdict(known) for known in self._own()]))
        fresh.replace(self._file)

    def _own(self) -> Iterator[Progress]:
        for exchange in tuple(self._running.values()):
            seconds = exchange.duration_s
            declared = exchange.head.content_length
            yield Progress(
                request_id=exchange.request_id,
                progress_id=progress_id_of(exchange),
                client=exchange.peer.address,
                path=exchange.head.path,
                received=exchange.body.received,
                size=-1 if declared is None else declared,
                seconds=round(seconds, 3),
                rate=round(exchange.body.received / seconds, 1) if seconds > 0 else 0.0,
            )

    def _others(self) -> Iterator[Progress]:
        if self._folder is None:
            return
        for path in self._folder.glob("*.json"):
            if path == self._file:
                continue
            try:
                if time.time() - path.stat().st_mtime < STALE_S:
                    yield from (Progress(**known) for known in json.loads(path.read_text()))
            except (OSError, ValueError, TypeError):
                continue  # a worker that ended just now


def progress_id_of(exchange: ClientExchange) -> str:
    """The id that a client gave its upload: ``X-Progress-ID`` in the query or a header; "" for none."""
    query = parse_qs(exchange.head.query)
    given = (
        query.get("X-Progress-ID")
        or query.get("x-progress-id")
        or [exchange.head.fields.get(PROGRESS_ID_HEADER)]
    )
    return given[0]
