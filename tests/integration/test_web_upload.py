"""A web upload, seen from its client and from the store: ask, stream, commit, tell, answer."""

import asyncio
import hashlib
import json

import pytest

from gateway.errors import CoreRefused, Unauthorized
from gateway.settings import Limits
from tests.support.raw_server import run
from tests.support.upload_bench import ToldCore, UploadBench, core_away, upload_bench

AUTH = "Authorization: Bearer x\r\n"
DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    extra = f'; filename="{filename}"' if filename is not None else ""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def request(body: bytes, *, query: str = "", extra: str = AUTH, length: int | None = None) -> bytes:
    return (
        f"POST /upload{query} HTTP/1.1\r\nHost: a\r\n{extra}Content-Type: multipart/form-data; boundary=B\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


async def upload(
    bench: UploadBench, body: bytes, *, query: str = "?collection=alice/test", extra: str = AUTH
) -> tuple[int, dict[str, str], bytes]:
    client = await bench.server.connect()
    await client.send(request(body, query=query, extra=extra))
    return await client.answer()


def test_an_upload_is_stored_under_its_digest_and_told_to_the_core() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            status, fields, body = await upload(
                bench, form(part("name", b"Tool"), part("file", DATA, "x.sif"))
            )
            assert status == 201
            assert json.loads(body) == {
                "data": {
                    "images": [
                        {"ref": "tool:latest", "sha256": SHA, "size": len(DATA), "url": "https://r/tool"}
                    ]
                }
            }
            assert fields["location"] == "https://r/tool"
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert bench.core.commits[0].images[0].filename == "x.sif"
            assert bench.is_clean

    run(story())


def test_fields_may_come_after_the_file_and_a_browser_is_led_to_the_image() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            body = form(
                part("collection", b"alice/test"),
                part("file", DATA, "x.sif"),
                part("name", b"tool"),
                part("tag", b"v1"),
            )
            status, fields, _ = await upload(bench, body, query="", extra=AUTH + "Accept: text/html,*/*\r\n")
            assert (status, fields["location"]) == (303, "https://r/tool")
            assert bench.core.commits[0].images[0].tag == "v1"

    run(story())


def test_without_a_name_the_file_gives_it() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            await upload(bench, form(part("file", DATA, "My Tool (2).SIF")))
            assert bench.core.commits[0].images[0].name == "my-tool-2"

    run(story())


def test_several_files_become_several_images_all_or_none() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            files = (part("f", DATA, "one.sif"), part("f", b"two", "two.sif"))
            status, _, body = await upload(bench, form(*files))
            assert status == 201
            assert [i["ref"] for i in json.loads(body)["data"]["images"]] == ["one:latest", "two:latest"]
            status, _, body = await upload(
                bench, form(*files, part("name", b"a"), part("name", b"b"), part("name", b"c"))
            )
            assert status == 400
            assert b"2 files and 3 names" in body
            assert len(bench.keys) == 2
            assert bench.is_clean

    run(story())


def test_equal_bytes_are_stored_once() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            await upload(bench, form(part("name", b"a"), part("file", DATA, "x")))
            await upload(bench, form(part("name", b"b"), part("file", DATA, "x")))
            assert len(bench.keys) == 2
            assert len(bench.store._objects) == 1

    run(story())


@pytest.mark.parametrize(
    ("body", "query", "extra", "status", "says"),
    [
        (form(part("file", DATA, "x")), "", AUTH, 400, b"collection"),
        (form(part("name", b"x")), "?collection=a/b", AUTH, 400, b"no file"),
        (form(part("file", b"", "")), "?collection=a/b", AUTH, 400, b"no file"),
        (form(part("file", DATA, "x")), "?collection=a", AUTH, 400, b"entity/collection"),
        (form(part("file", DATA, "x")), "?collection=../b", AUTH, 400, b"cannot be the name"),
        (form(part("file", DATA, "x"), part("name", b"../x")), "?collection=a/b", AUTH, 400, b"cannot be the name"),
        (form(part("file", DATA, "x"), part("tag", b"a b")), "?collection=a/b", AUTH, 400, b"cannot be a tag"),
        (form(part("file", DATA, "x")), "?collection=a/b", "", 401, b"Bearer"),
        (part("file", DATA, "x"), "?collection=a/b", AUTH, 400, b""),
        (b"nonsense", "?collection=a/b", AUTH, 400, b""),
        (form(part("n", b"x" * 70_000), part("file", DATA, "x")), "?collection=a/b", AUTH, 413, b""),
    ],
)  # fmt: skip
def test_a_bad_upload_is_refused_with_a_sentence_and_leaves_nothing(
    body: bytes, query: str, extra: str, status: int, says: bytes
) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answered, fields, content = await upload(bench, body, query=query, extra=extra)
            assert answered == status
            assert says in content
            assert status != 401 or "www-authenticate" in fields
            assert bench.keys == []
            assert bench.core.commits == []
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/octet-stream", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
    ],
)
def test_what_is_no_form_is_refused(kind: str, status: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            await client.send(
                f"POST /upload HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: {kind}\r\nContent-Length: 3\r\n\r\nabc".encode()
            )
            assert (await client.answer())[0] == status

    run(story())


def test_the_core_is_asked_before_100_continue_when_the_query_says_enough() -> None:
    core = ToldCore(refusal=CoreRefused(403, "Not yours."))

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            client = await bench.server.connect()
            await client.send(
                request(b"", query="?collection=a/b", extra=AUTH + "Expect: 100-continue\r\n", length=10**10)
            )
            status, _, body = await client.answer()
            assert status == 403
            assert b"Not yours." in body
            assert core.questions[0].declared_bytes == 10**10

    run(story())


def test_a_refused_upload_in_mid_body_is_answered_and_leaves_nothing() -> None:
    core = ToldCore(refusal=Unauthorized("No."))

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            client = await bench.server.connect()
            body = form(part("collection", b"a/b"), part("file", b"x" * 8_000_000, "x"))
            sending = asyncio.gather(client.send(request(body)), return_exceptions=True)
            assert (await client.answer())[0] == 401
            client.close()
            await sending
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize("size", [99, 100, 101])
def test_a_file_is_limited_exactly_by_setting_and_by_ticket(size: int) -> None:
    async def story(limits: Limits, core: ToldCore) -> None:
        async with upload_bench(limits=limits, core=core) as bench:
            status, _, _ = await upload(bench, form(part("file", b"x" * size, "x")))
            assert status == (201 if size <= 100 else 413)
            assert bench.is_clean

    run(story(Limits(upload_bytes=100), ToldCore()))
    run(story(Limits(), ToldCore(max_bytes=100)))


def test_what_the_spool_gave_is_for_all_files_of_a_form_and_taken_back_at_its_end() -> None:
    async def story(sizes: tuple[int, ...], status: int) -> None:
        core = ToldCore(max_bytes=100, kind="spooled")
        async with upload_bench(core=core) as bench:
            files = (part("file", b"x" * size, f"x{number}") for number, size in enumerate(sizes))
            assert (await upload(bench, form(*files)))[0] == status
            assert core.settled == ["0" * 31 + "1"]
            assert bench.is_clean

    run(story((60, 40), 201))
    run(story((60, 41), 413))
    run(story((100, 2), 413))


def test_a_client_that_goes_away_leaves_nothing() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            for cut in (0, 50, 200, 3000):
                client = await bench.server.connect()
                await client.send(
                    request(form(part("file", DATA, "x")), query="?collection=a/b")[: 150 + cut]
                )
                client.close()
            while bench.server.context.connections:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert bench.keys == []
            assert bench.is_clean

    run(story())


def test_a_full_store_is_507_and_the_next_upload_works() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            bench.store.full = True
            status, fields, _ = await upload(bench, form(part("file", DATA, "x")))
            assert status == 507
            assert "retry-after" in fields
            bench.store.full = False
            assert bench.is_clean
            assert (await upload(bench, form(part("file", DATA, "x"))))[0] == 201

    run(story())


def test_a_store_that_is_down_is_503() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            bench.store.down = True
            status, fields, _ = await upload(bench, form(part("file", DATA, "x")))
            assert (status, "retry-after" in fields) == (503, True)

    run(story())


def test_a_core_that_refuses_the_commit_is_obeyed_and_nothing_stays() -> None:
    core = ToldCore(commit_refusal=CoreRefused(409, "The tag is frozen."))

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            status, _, body = await upload(bench, form(part("file", DATA, "x")))
            assert status == 409
            assert b"frozen" in body
            assert bench.keys == []
            assert bench.is_clean

    run(story())


def test_a_core_that_is_away_at_the_end_makes_it_202_and_the_bytes_are_safe() -> None:
    core = ToldCore(commit_refusal=core_away())

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            status, fields, body = await upload(bench, form(part("file", DATA, "x")))
            assert status == 202
            assert json.loads(body)["data"]["status"] == "pending"
            assert fields["location"].startswith("/v2/uploads/")
            assert bench.keys == [f"alice/test/x:sha256.{SHA}"]

    run(story())


def test_more_uploads_than_allowed_are_429() -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(uploads=1)) as bench:
            first = await bench.server.connect()
            await first.send(request(form(part("file", DATA, "x")), query="?collection=a/b")[:-5])
            await asyncio.sleep(0.1)
            status, fields, _ = await upload(bench, form(part("file", DATA, "x")))
            assert (status, "retry-after" in fields) == (429, True)
            first.close()

    run(story())


def test_a_query_with_more_fields_than_a_form_may_have_is_a_bad_form() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            query = "?collection=alice/test&" + "&".join(["a=1"] * 200)
            status, _, body = await upload(bench, form(part("file", DATA, "x.sif")), query=query)
            assert (status, b"query string" in body) == (400, True)
            assert bench.is_clean

    run(story())
