"""Resumable uploads under fire: cut, stalled, side by side, killed between; no byte that was told is ever lost."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from gateway.resumable import append
from gateway.resumable.handler import ResumableUpload
from gateway.resumable.resource import UploadRecords
from gateway.settings import Limits, Server
from tests.support.raw_server import RawServer, raw_server, run
from tests.support.resumable import (
    AUTH,
    BYTES,
    IETF,
    LAST,
    PARTIAL,
    PLACE,
    TUS,
    encode,
    ietf,
    make,
    make_ietf,
    offset_of,
    patch,
    read,
    tus,
    until,
)
from tests.support.upload_bench import SECRET, UploadBench, upload_bench

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(DATA).hexdigest()


def is_idle(bench: UploadBench) -> bool:
    return not bench.server.context.connections


@contextlib.asynccontextmanager
async def fellow(bench: UploadBench) -> AsyncIterator[RawServer]:
    """Another worker process, as far as uploads can tell: same folder and store, nothing else in common."""
    records = UploadRecords(bench.folder / "resumable", durable=False)
    other = ResumableUpload(bench.resources, records, SECRET, Server())
    async with raw_server(other.handle) as server:
        yield server


@pytest.mark.parametrize("cut", [1, 100, 65_535, 65_536, 65_537, 300_001, len(DATA) - 1])
@pytest.mark.parametrize("protocol", ["tus", "ietf"])
def test_a_cut_request_keeps_every_byte_that_arrived(cut: int, protocol: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await (make(bench, len(DATA)) if protocol == "tus" else make_ietf(bench))
            lines = (TUS, BYTES) if protocol == "tus" else (IETF, PARTIAL, LAST)
            client = await bench.server.connect()
            request = encode("PATCH", url, *lines, "Upload-Offset: 0", body=DATA[:cut], length=len(DATA))
            await client.send(request)
            client.writer.write_eof()
            await until(lambda: is_idle(bench))
            assert (bench.records.load(url.rpartition("/")[2])).offset == cut
            if protocol == "tus":
                assert (await patch(bench, url, cut, DATA[cut:])).offset == len(DATA)
            else:
                done = await ietf(
                    bench, "PATCH", url, PARTIAL, LAST, f"Upload-Offset: {cut}", body=DATA[cut:]
                )
                assert done.status == 201
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert bench.is_clean

    run(story())


def test_a_cut_request_whose_bytes_were_to_be_verified_keeps_none() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            client = await bench.server.connect()
            lines = (TUS, BYTES, "Upload-Offset: 0", f"Upload-Checksum: sha1 {'A' * 27}=")
            await client.send(encode("PATCH", url, *lines, body=DATA[:5000], length=len(DATA)))
            client.writer.write_eof()
            await until(lambda: is_idle(bench))
            assert await offset_of(bench, url) == 0
            assert (await patch(bench, url, 0, DATA)).offset == len(DATA)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("by", ["HEAD", "PATCH"])
def test_a_stalled_request_is_ended_at_once_by_a_newer_one(by: str, across: bool) -> None:
    async def story() -> None:
        async with upload_bench() as bench, fellow(bench) as other:
            url = await make(bench, len(DATA))
            stalled = await (other if across else bench.server).connect()
            head = encode("PATCH", url, TUS, BYTES, "Upload-Offset: 0", body=DATA[:70_000], length=len(DATA))
            await stalled.send(head)
            upload_id = url.rpartition("/")[2]
            await until(lambda: _is_held(bench, upload_id))
            await asyncio.sleep(0.1)  # for the bytes; how many have come by then is told below
            started = time.monotonic()
            if by == "HEAD":
                assert await offset_of(bench, url) == 70_000
            else:
                wrong = await patch(bench, url, 70_001, b"x")
                assert (wrong.status, wrong.offset) == (409, 70_000)
            assert time.monotonic() - started < 1
            assert (await read(stalled)).status == 409
            assert (await patch(bench, url, 70_000, DATA[70_000:])).offset == len(DATA)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert not list((bench.folder / "resumable").glob("*.want"))

    run(story())


def _is_held(bench: UploadBench, upload_id: str) -> bool:
    lock = bench.records.try_hold(upload_id)
    if lock is None:
        return True
    lock.release()
    return False


def test_many_patches_at_once_make_one_whole_file() -> None:
    """Each client sends from the offset it believes in and asks again when that is wrong."""

    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))

            async def push() -> None:
                offset = 0
                while offset < len(DATA):
                    answer = await patch(bench, url, offset, DATA[offset : offset + 100_000])
                    assert answer.status in {204, 409, 413}
                    known = await offset_of(bench, url)
                    assert known >= offset or answer.status != 204
                    offset = known

            await asyncio.gather(*(push() for _ in range(6)))
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert len(bench.core.commits) == 1
            assert bench.is_clean

    run(story())


def test_workers_may_take_turns_and_the_digest_is_read_back() -> None:
    async def story() -> None:
        async with upload_bench() as bench, fellow(bench) as other:
            url = await make(bench, len(DATA))
            for number, start in enumerate(range(0, len(DATA), 300_000)):
                client = await (other if number % 2 else bench.server).connect()
                body = DATA[start : start + 300_000]
                await client.send(encode("PATCH", url, TUS, BYTES, f"Upload-Offset: {start}", body=body))
                assert (await read(client)).status == 204
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_long_requests_are_counted_on_their_way_and_the_client_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(append, "CHECKPOINT_BYTES", 200_000)

    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            sending = asyncio.gather(
                client.send(encode("POST", "/uploads/" + PLACE, IETF, AUTH, LAST, body=DATA * 8))
            )
            answer = await read(client)
            await sending
            told = [int(fields["upload-offset"]) for status, fields in answer.interim[1:]]
            assert told
            assert told == sorted(set(told))
            assert told[-1] <= len(DATA) * 8
            assert all("location" not in fields for _, fields in answer.interim[1:])
            assert answer["image-digest"] == f"sha256:{hashlib.sha256(DATA * 8).hexdigest()}"

    run(story())


def test_a_full_store_is_507_and_what_was_counted_stays() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            await patch(bench, url, 0, DATA[:1000])
            bench.store.full = True
            assert (await patch(bench, url, 1000, DATA[1000:])).status == 507
            bench.store.full = False
            offset = await offset_of(bench, url)
            assert offset == 1000
            assert (await patch(bench, url, offset, DATA[offset:])).offset == len(DATA)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_bytes_that_were_cleaned_away_are_never_replaced_by_zeros() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            await patch(bench, url, 0, DATA[:1000])
            bench.store.discard_staged(url.rpartition("/")[2])
            now = bench.records.clock()
            bench.records.clock = lambda: now + 3600
            assert (await patch(bench, url, 1000, DATA[1000:])).status == 404
            assert bench.keys == []

    run(story())


@pytest.mark.parametrize("when", ["before the seal", "after the digest", "after the core was told"])
def test_a_gateway_that_dies_at_the_end_finishes_when_it_is_asked_again(when: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            upload_id = url.rpartition("/")[2]
            await patch(bench, url, 0, DATA[:-1])
            before = bench.records.load(upload_id)
            await patch(bench, url, len(DATA) - 1, DATA[-1:])
            after = bench.records.load(upload_id)
            # What the file said at the moment of death; the store and the core as they were then.
            known = "" if when == "before the seal" else SHA
            bench.records.save(replace(before, offset=len(DATA), answer=None, sha256=known))
            if when != "after the core was told":
                bench.core.commits.clear()
                for key in bench.keys:
                    bench.store.delete(key)
                bench.store._objects.clear()
                part = bench.store.open_part(upload_id, offset=0, total_size=len(DATA))
                part.write(DATA)
                part.close(keep=True)
            async with fellow(bench) as other:
                client = await other.connect()
                await client.send(encode("HEAD", url, TUS))
                looked = await read(client, method="HEAD")
            assert (looked.status, looked.offset) == (204, len(DATA))
            assert looked["image-digest"] == f"sha256:{SHA}"
            assert bench.records.load(upload_id).answer == after.answer
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert bench.is_clean

    run(story())


def test_a_record_that_cannot_be_read_is_404_and_never_500() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 10)
            path = bench.folder / "resumable" / f"{url.rpartition('/')[2]}.json"
            for content in (b"", b"{", b"[]", b"{}", b'{"id":1}', b"\xff"):
                path.write_bytes(content)
                assert (await tus(bench, "HEAD", url)).status == 404
                assert (await patch(bench, url, 0, b"x")).status == 404

    run(story())


def test_a_creation_that_is_cut_leaves_nothing_in_tus_and_a_known_upload_in_the_other() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            lines = (TUS, AUTH, BYTES, f"Upload-Length: {len(DATA)}")
            await client.send(encode("POST", "/uploads/" + PLACE, *lines, body=DATA[:5000], length=len(DATA)))
            client.writer.write_eof()
            await until(lambda: is_idle(bench))
            assert bench.is_clean
            client = await bench.server.connect()
            await client.send(
                encode("POST", "/uploads/" + PLACE, IETF, AUTH, LAST, body=DATA[:5000], length=len(DATA))
            )
            status, fields = await client.head()
            client.writer.write_eof()
            await until(lambda: is_idle(bench))
            looked = await ietf(bench, "HEAD", fields["location"])
            assert (status, looked.offset, looked["upload-length"]) == (104, 5000, str(len(DATA)))

    run(story())


def test_more_uploads_than_allowed_are_429() -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(uploads=1)) as bench:
            url = await make(bench, len(DATA))
            client = await bench.server.connect()
            await client.send(
                encode("PATCH", url, TUS, BYTES, "Upload-Offset: 0", body=b"x", length=len(DATA))
            )
            await until(lambda: bench.resources.running.total == 1)
            answer = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Length: 5")
            assert (answer.status, "retry-after" in answer.fields) == (429, True)

    run(story())


def test_a_sweep_takes_no_upload_that_is_being_received() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            client = await bench.server.connect()
            await client.send(
                encode("PATCH", url, TUS, BYTES, "Upload-Offset: 0", body=DATA[:9], length=len(DATA))
            )
            await until(lambda: _is_held(bench, url.rpartition("/")[2]))
            now = bench.records.clock()
            bench.records.clock = lambda: now + 90_000
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(bench.records.sweep, bench.store.discard_staged).result() == 0
            bench.records.clock = lambda: now
            await client.send(DATA[9:])
            assert (await read(client)).status == 204

    run(story())


@pytest.mark.parametrize("protocol", ["tus", "ietf"])
def test_nothing_is_begun_while_the_store_is_down(protocol: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            bench.store.down = True
            if protocol == "tus":
                refused = await tus(bench, "POST", f"/uploads/{PLACE}", AUTH, "Upload-Length: 5")
            else:
                refused = await ietf(bench, "POST", f"/uploads/{PLACE}", AUTH, LAST, body=b"12345")
            assert (refused.status, int(refused["retry-after"]) > 0) == (503, True)
            assert "location" not in refused.fields
            assert not list((bench.folder / "resumable").glob("*"))
            bench.store.down = False
            assert await make(bench, 5)

    run(story())
