"""Owns the proof that an outage of S3 loses nothing and leaves nothing, short or long, whatever is under way."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.errors import StoreDown
from gateway.store import s3_multipart, s3_reading, s3_store
from gateway.store.keys import blob_key
from gateway.store.s3_store import S3Store
from tests.support.seaweed import Seaweed

MIB = 1 << 20
COUNT = 8


class Outage:
    """Eight uploads and eight downloads, all half-way when the server dies."""

    def __init__(self, server: Seaweed, folder: Path) -> None:
        self.server = server
        self.store = S3Store(server.settings(), spool=folder / "spool", buffer_bytes=24 * MIB)
        self.half_way = threading.Barrier(2 * COUNT + 1)
        self.died = threading.Event()
        self.stored = [self.upload(os.urandom(MIB) * 8, wait=lambda: None) for _ in range(COUNT)]

    def upload(self, data: bytes, *, wait: Callable[[], None]) -> str:
        """The key, "" if the store was down."""
        sha256 = hashlib.sha256(data).hexdigest()
        key = blob_key("alice", "tools", f"tool{sha256[:6]}", sha256)
        writer = self.store.create(os.urandom(8).hex(), size_hint=len(data))
        try:
            writer.write(data[: 6 * MIB])
            wait()
            writer.write(data[6 * MIB :])
            self.store.place(writer.seal(), sha256=sha256, key=key)
        except StoreDown:
            return ""
        finally:
            writer.discard()
        return key

    def download(self, key: str) -> bool:
        """Whether it came to its end; what came is true in any case."""
        digest = hashlib.sha256()
        with self.store.open(key) as file:
            digest.update(file.read(MIB))
            self.wait()
            try:
                while piece := file.read(MIB):
                    digest.update(piece)
            except StoreDown:
                return False
        assert digest.hexdigest() == key[-64:]
        return True

    def wait(self) -> None:
        self.half_way.wait(60)
        assert self.died.wait(60)

    def run(self, *, back: Callable[[], None]) -> tuple[list[str], list[bool]]:
        """Kill the server half-way and call ``back``; the keys that were placed, and which downloads ended."""
        with ThreadPoolExecutor(2 * COUNT) as pool:
            uploads = [pool.submit(self.upload, os.urandom(MIB) * 12, wait=self.wait) for _ in range(COUNT)]
            downloads = [pool.submit(self.download, key) for key in self.stored]
            self.half_way.wait(60)
            self.server.stop()
            self.died.set()
            back()
            return [future.result() for future in uploads], [future.result() for future in downloads]

    def check_clean(self, placed: list[str]) -> None:
        """What was said to be stored is; nothing else is left once the sweep has run."""
        self.store.sweep(parts_older_than_s=0)
        assert list(self.store.uploads()) == []
        assert list(self.store._multiparts.list("objects/")) == []
        kept = {*self.stored, *filter(None, placed)}
        assert set(self.store.keys()) == kept
        for key in kept:
            with self.store.open(key) as file:
                assert hashlib.sha256(file.read()).hexdigest() == key[-64:]
        names = [found.name.partition("/") for found in self.store._records.list("")]
        holders = {name.rpartition("/")[2] for top, _, name in names if top == "digests"}
        assert {name for top, _, name in names if top == "objects"} == holders
        assert len(holders) == len(kept)
        self.store.close()


@pytest.mark.parametrize("kind", ["short", "long"])
def test_an_outage_in_the_middle_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "long":
        for module in (s3_multipart, s3_reading, s3_store):
            monkeypatch.setattr(module, "PART_PATIENCE_S", 0.3)
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        server = Seaweed(Path(folder))
        server.start()
        try:
            outage = Outage(server, tmp_path)
            placed, ended = outage.run(back=server.start if kind == "short" else lambda: None)
            if kind == "short":
                assert all(placed)
                assert all(ended)
            else:
                assert not any(placed)
                server.start()
            outage.check_clean(placed)
        finally:
            server.stop()
