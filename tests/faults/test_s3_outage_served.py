"""Owns the proof that an outage of S3 in the middle of uploads and downloads ends each of them with a true answer."""

import hashlib
import http.client
import json
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.open_upload import OpenUpload
from tests.support.product import Product, running_product
from tests.support.seaweed import Seaweed

MIB = 1 << 20
COUNT = 8
PULLED = "/v1/imagefile/ada/tools/kept:latest"


@contextmanager
def site() -> Iterator[tuple[Seaweed, Product]]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        seaweed = Seaweed(Path(folder) / "s3")
        settings = seaweed.environ
        seaweed.start()
        try:
            with running_product(Path(folder) / "product", settings=settings) as product:
                yield seaweed, product
        finally:
            seaweed.stop()


class Clients:
    """Eight uploads and eight downloads, each half-way when the server dies."""

    def __init__(self, product: Product, token: str, kept: bytes) -> None:
        self.product = product
        self.token = token
        self.kept = kept
        self.half_way = threading.Barrier(2 * COUNT + 1)
        self.died = threading.Event()

    def wait(self) -> None:
        self.half_way.wait(60)
        assert self.died.wait(60)

    def upload(self, number: int) -> tuple[int, str]:
        """Status, and the digest of what was sent."""
        with OpenUpload(
            self.product, token=self.token, collection="ada/tools", name=f"t{number}", size_bytes=20 * MIB
        ) as upload:
            upload.send(12 * MIB)
            self.wait()
            status, body = upload.finish_or_answer()
            if status != 201:
                assert json.loads(body)["error"]["code"] == status
            return status, hashlib.sha256(upload.content).hexdigest()

    def download(self) -> bool:
        """Whether it came to its end; what came is true in any case."""
        request = urllib.request.Request(
            self.product.base + PULLED, headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, context=self.product.ssl_context(), timeout=90) as answer:
            got = answer.read(MIB)
            self.wait()
            try:
                got += answer.read()
            except http.client.IncompleteRead as cut:
                got += cut.partial
            except OSError:
                return False
        assert self.kept.startswith(got)
        return len(got) == len(self.kept)

    def run(self, seaweed: Seaweed, *, back: Callable[[], None]) -> tuple[list[tuple[int, str]], list[bool]]:
        """Kill the server half-way and call ``back``; how each upload and each download ended."""
        with ThreadPoolExecutor(2 * COUNT) as pool:
            uploads = [pool.submit(self.upload, number) for number in range(COUNT)]
            downloads = [pool.submit(self.download) for _ in range(COUNT)]
            for upload, download in zip(uploads, downloads, strict=True):  # nobody ends before
                upload.add_done_callback(lambda _: self.half_way.abort())
                download.add_done_callback(lambda _: self.half_way.abort())
            self.half_way.wait(60)
            seaweed.stop()
            self.died.set()
            back()
            return [future.result() for future in uploads], [future.result() for future in downloads]


def check_clean(seaweed: Seaweed, product: Product, digests: set[str]) -> None:
    """What was confirmed is there, and nothing else once the sweep has run."""
    product.run("gateway", "uploads", "sweep")
    store = seaweed.store("images", product.folder / "looking")
    try:
        assert list(store._multiparts.list("objects/")) == []
        names = [found.name.partition("/") for found in store._records.list("")]
        assert {key.rpartition("sha256.")[2] for key in list(store.keys())} == digests
        holders = {name.rpartition("/")[2] for top, _, name in names if top == "digests"}
        assert {name for top, _, name in names if top == "objects"} == holders
        assert len(holders) == len(digests)
        assert not [name for top, _, name in names if top == "staging"]
    finally:
        store.close()
    assert product.run("registry", "fsck").stdout.strip() == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["short", "long"])
def test_an_outage_in_the_middle_of_uploads_and_downloads(kind: str) -> None:
    with site() as (seaweed, product):
        token = product.new_user("ada")
        with OpenUpload(
            product, token=token, collection="ada/tools", name="kept", size_bytes=64 * MIB
        ) as upload:
            assert upload.finish()[0] == 201
            kept = upload.content
        clients = Clients(product, token, kept)
        uploads, downloads = clients.run(seaweed, back=seaweed.start if kind == "short" else lambda: None)
        if kind == "short":
            assert [status for status, _ in uploads] == [201] * COUNT
            assert all(downloads)
        else:
            assert {status for status, _ in uploads} == {503}
            seaweed.start()
            product.wait_ready()
        stored = {digest for status, digest in uploads if status == 201}
        check_clean(seaweed, product, stored | {hashlib.sha256(kept).hexdigest()})
