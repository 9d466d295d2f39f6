"""The checklist of tus 1.0's extensions: creation with bytes, deferred length, checksums, ends."""

import hashlib
import json

import pytest

from gateway.settings import Limits
from tests.support.raw_server import run
from tests.support.resumable import (
    AUTH,
    BYTES,
    PLACE,
    TUS,
    b64,
    chunked,
    encode,
    make,
    offset_of,
    patch,
    read,
    tus,
)
from tests.support.upload_bench import upload_bench

DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()
UNKNOWN = "/uploads/" + "0" * 40


def test_an_empty_upload_is_complete_at_once() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Length: 0")
            assert (made.status, made.offset, made["image-ref"]) == (201, 0, "tool:latest")
            assert bench.keys == [f"alice/test/tool:sha256.{hashlib.sha256(b'').hexdigest()}"]
            assert (await tus(bench, "HEAD", made["location"])).offset == 0

    run(story())


@pytest.mark.parametrize("size", [0, 1, 7000, len(DATA)])
def test_the_creation_may_bring_the_first_bytes(size: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            lines = (AUTH, BYTES, f"Upload-Length: {len(DATA)}")
            made = await tus(bench, "POST", "/uploads/" + PLACE, *lines, body=DATA[:size])
            assert (made.status, made.offset) == (201, size)
            if size == len(DATA):
                assert json.loads(made.body)["data"]["images"][0]["sha256"] == SHA
            else:
                assert (await patch(bench, made["location"], size, DATA[size:])).offset == len(DATA)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        (("Upload-Length: 3",), b"abc", 415),
        (("Upload-Length: 3", "Content-Type: text/plain"), b"abc", 415),
        (("Upload-Length: 3", BYTES), b"abcde", 413),
    ],
)
def test_a_creation_with_wrong_content_makes_nothing(
    lines: tuple[str, ...], body: bytes, status: int
) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answer = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, *lines, body=body)
            assert answer.status == status
            assert bench.is_clean

    run(story())


def test_a_creation_with_content_is_invited_after_the_core_said_yes() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            lines = (TUS, AUTH, BYTES, f"Upload-Length: {len(DATA)}", f"Content-Length: {len(DATA)}")
            await client.send(encode("POST", "/uploads/" + PLACE, *lines, "Expect: 100-continue"))
            assert (await client.head())[0] == 100
            assert len(bench.core.questions) == 1
            await client.send(DATA)
            assert (await read(client)).offset == len(DATA)

    run(story())


def test_a_deferred_length_is_said_later_once() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Defer-Length: 1")
            url = made["location"]
            looked = await tus(bench, "HEAD", url)
            assert looked["upload-defer-length"] == "1"
            assert "upload-length" not in looked.fields
            await patch(bench, url, 0, DATA[:5000])
            assert (await tus(bench, "HEAD", url))["upload-defer-length"] == "1"
            short = await patch(bench, url, 5000, DATA[5000:], "Upload-Length: 4000")
            assert short.status == 400
            done = await patch(bench, url, 5000, DATA[5000:9000], f"Upload-Length: {len(DATA)}")
            assert done.offset == 9000
            looked = await tus(bench, "HEAD", url)
            assert looked["upload-length"] == str(len(DATA))
            assert "upload-defer-length" not in looked.fields
            changed = await patch(bench, url, 9000, DATA[9000:], f"Upload-Length: {len(DATA) + 1}")
            assert changed.status == 400
            assert (await patch(bench, url, 9000, DATA[9000:])).status == 204
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_a_deferred_length_may_come_alone_at_the_end() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Defer-Length: 1")
            await patch(bench, made["location"], 0, DATA)
            assert bench.keys == []
            done = await patch(bench, made["location"], len(DATA), b"", f"Upload-Length: {len(DATA)}")
            assert (done.status, done["image-ref"]) == (204, "tool:latest")
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_a_deferred_length_is_limited_too() -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(upload_bytes=1000)) as bench:
            url = (await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Defer-Length: 1"))["location"]
            assert (await patch(bench, url, 0, b"x" * 1001)).status == 413
            assert (await patch(bench, url, 0, b"x", "Upload-Length: 1001")).status == 413
            assert (await patch(bench, url, 0, b"x" * 1000)).status == 204

    run(story())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_is_verified_and_a_wrong_one_drops_the_chunk(algorithm: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            for start, end in ((0, 6000), (6000, len(DATA))):
                good = b64(hashlib.new(algorithm, DATA[start:end]).digest())
                wrong = await patch(
                    bench, url, start, b"x" * (end - start), f"Upload-Checksum: {algorithm} {good}"
                )
                assert (wrong.status, wrong["tus-resumable"]) == (460, "1.0.0")
                assert await offset_of(bench, url) == start
                right = await patch(
                    bench, url, start, DATA[start:end], f"Upload-Checksum: {algorithm} {good}"
                )
                assert (right.status, right.offset) == (204, end)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


@pytest.mark.parametrize(
    "value", ["md4 AAAA", "SHA1 AAAA", "sha1", "sha1 !!!", "sha1 AAAA", "", "sha256 " + b64(b"x" * 20)]
)
def test_a_checksum_that_cannot_be_used_is_400_and_nothing_changes(value: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            assert (await patch(bench, url, 0, DATA, f"Upload-Checksum: {value}")).status == 400
            assert await offset_of(bench, url) == 0

    run(story())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_may_come_behind_the_content(algorithm: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            head = (TUS, BYTES, "Upload-Offset: 0", "Transfer-Encoding: chunked", "Trailer: Upload-Checksum")
            good = b64(hashlib.new(algorithm, DATA).digest())
            bad = b64(hashlib.new(algorithm, b"other").digest())
            for trailer, status in (
                (f"Upload-Checksum: {algorithm} {bad}", 460),
                ("Upload-Checksum: md5 AAAA", 400),
                ("", 400),
                (f"Upload-Checksum: {algorithm} {good}", 204),
            ):
                client = await bench.server.connect()
                await client.send(encode("PATCH", url, *head) + chunked(DATA, trailer=trailer))
                assert (await read(client)).status == status
                assert await offset_of(bench, url) == (len(DATA) if status == 204 else 0)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_a_refused_chunk_longer_than_what_follows_leaves_no_tail() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = (await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Defer-Length: 1"))["location"]
            wrong = f"Upload-Checksum: sha1 {b64(bytes(20))}"
            assert (await patch(bench, url, 0, b"z" * 40_000, wrong)).status == 460
            done = await patch(bench, url, 0, DATA, f"Upload-Length: {len(DATA)}")
            assert done["image-digest"] == f"sha256:{SHA}"
            with bench.store.open(f"alice/test/tool:sha256.{SHA}") as file:
                assert file.read() == DATA
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize("sent", [0, 4000, len(DATA)])
def test_a_terminated_upload_is_gone(sent: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            if sent:
                await patch(bench, url, 0, DATA[:sent])
            assert (await tus(bench, "DELETE", url)).status == 204
            for method in ("HEAD", "DELETE"):
                gone = await tus(bench, method, url)
                assert gone.status in {404, 410}
                assert "upload-offset" not in gone.fields
            assert (await patch(bench, url, sent, DATA[sent:])).status in {404, 410}
            assert bench.is_clean
            assert len(bench.keys) == (sent == len(DATA))  # the image stays

    run(story())


def test_an_expired_upload_is_gone_and_swept() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            await patch(bench, url, 0, DATA[:4000])
            now = bench.records.clock()
            bench.records.clock = lambda: now + 86300
            assert bench.records.sweep(bench.store.discard_staged) == 0
            bench.records.clock = lambda: now + 86500
            assert (await tus(bench, "HEAD", url)).status in {404, 410}
            assert bench.records.sweep(bench.store.discard_staged) == 1
            assert bench.is_clean
            assert list((bench.folder / "resumable").iterdir()) == []

    run(story())
