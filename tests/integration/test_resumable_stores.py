"""Resumable uploads over every store: pieces of any size, cuts, refusals, parts that are joined."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.store.base import BlobStore
from gateway.store.disk import DiskStore
from tests.support.raw_server import run
from tests.support.resumable import AUTH, BYTES, PLACE, TUS, b64, encode, make, offset_of, patch, tus, until
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, running_seaweed
from tests.support.upload_bench import upload_bench

MIB = 1 << 20
DATA = b"".join(hashlib.sha256(n.to_bytes(2)).digest() * 1024 for n in range(13 * 32)) + b"the end"  # 13 MiB
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], BlobStore]]:
    """Opens the store, as a process does at its start."""
    if request.param == "disk":
        yield lambda: DiskStore(tmp_path / "root", reserve_bytes=0, fsync=False)
        return
    from pydantic import SecretStr

    from gateway.settings import S3
    from gateway.store.s3_store import S3Store

    server: Seaweed = request.getfixturevalue("seaweed")
    settings = S3(
        endpoint=server.endpoint,
        bucket=f"b{abs(hash(tmp_path)):x}",
        access_key=SecretStr(ACCESS_KEY),
        secret_key=SecretStr(SECRET_KEY),
    )
    opened: list[S3Store] = []

    def open_s3() -> BlobStore:
        opened.append(S3Store(settings, spool=tmp_path / "spool", buffer_bytes=64 * MIB))
        opened[-1].check()
        return opened[-1]

    yield open_s3
    for one in opened:
        one.close()


def content(store: BlobStore) -> bytes:
    [key] = store.keys()
    with store.open(key) as file:
        return b"".join(iter(lambda: file.read(MIB), b""))


@pytest.mark.parametrize("step", [700_000, 5 * MIB, 6 * MIB, len(DATA)])
def test_pieces_of_any_size_become_the_file(store: Callable[[], BlobStore], step: int) -> None:
    async def story() -> None:
        async with upload_bench(store=store()) as bench:
            url = await make(bench, len(DATA))
            for start in range(0, len(DATA), step):
                assert (await patch(bench, url, start, DATA[start : start + step])).status == 204
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert content(bench.store) == DATA
            assert bench.is_clean

    run(story())


def test_cuts_refusals_and_a_length_that_comes_late(store: Callable[[], BlobStore]) -> None:
    async def story() -> None:
        async with upload_bench(store=store()) as bench:
            made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Defer-Length: 1")
            url = made["location"]
            wrong = f"Upload-Checksum: sha1 {b64(bytes(20))}"
            assert (await patch(bench, url, 0, b"z" * (len(DATA) + 5000), wrong)).status == 460
            client = await bench.server.connect()
            lines = (TUS, BYTES, "Upload-Offset: 0")
            await client.send(encode("PATCH", url, *lines, body=DATA[: 7 * MIB], length=len(DATA)))
            client.writer.write_eof()
            await until(lambda: not bench.server.context.connections)
            assert await offset_of(bench, url) == 7 * MIB
            right = f"Upload-Checksum: sha256 {b64(hashlib.sha256(DATA[7 * MIB : 8 * MIB]).digest())}"
            assert (await patch(bench, url, 7 * MIB, DATA[7 * MIB : 8 * MIB], right)).status == 204
            done = await patch(bench, url, 8 * MIB, DATA[8 * MIB :], f"Upload-Length: {len(DATA)}")
            assert done["image-digest"] == f"sha256:{SHA}"
            assert content(bench.store) == DATA
            assert bench.is_clean

    run(story())


def test_another_process_goes_on_and_reads_back(store: Callable[[], BlobStore]) -> None:
    async def story() -> None:
        async with upload_bench(store=store()) as first:
            url = await make(first, len(DATA))
            upload_id = url.rpartition("/")[2]
            await patch(first, url, 0, DATA[: 6 * MIB + 1])
            record = first.records.load(upload_id)
        async with upload_bench(store=store()) as second:
            second.records.create(record)
            assert await offset_of(second, url) == 6 * MIB + 1
            done = await patch(second, url, 6 * MIB + 1, DATA[6 * MIB + 1 :])
            assert done["image-digest"] == f"sha256:{SHA}"
            assert content(second.store) == DATA

    run(story())


def test_parts_are_joined_and_can_be_removed(store: Callable[[], BlobStore]) -> None:
    async def story() -> None:
        async with upload_bench(store=store()) as bench:
            urls = []
            for piece in (DATA[: 6 * MIB], DATA[6 * MIB : 6 * MIB + 100], DATA[6 * MIB + 100 :]):
                urls.append(await make(bench, len(piece), "Upload-Concat: partial"))
                assert (await patch(bench, urls[-1], 0, piece)).status == 204
            final = f"Upload-Concat: final;{' '.join(urls)}"
            made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, final)
            assert made["image-digest"] == f"sha256:{SHA}"
            assert content(bench.store) == DATA
            for url in urls:
                assert (await tus(bench, "DELETE", url)).status == 204
            assert bench.is_clean
            assert content(bench.store) == DATA

    run(story())


@pytest.mark.parametrize("length", [0, 1])
def test_very_small_files(store: Callable[[], BlobStore], length: int) -> None:
    async def story() -> None:
        async with upload_bench(store=store()) as bench:
            url = await make(bench, length)
            if length:
                await patch(bench, url, 0, DATA[:length])
            assert content(bench.store) == DATA[:length]
            assert bench.is_clean

    run(story())


def test_a_removed_upload_leaves_nothing_in_the_store(store: Callable[[], BlobStore]) -> None:
    async def story() -> None:
        async with upload_bench(store=store()) as bench:
            url = await make(bench, len(DATA))
            await patch(bench, url, 0, DATA[: 7 * MIB])
            assert (await tus(bench, "DELETE", url)).status == 204
            assert bench.is_clean
            assert bench.keys == []

    run(story())
