"""The checklist of "Resumable Uploads for HTTP", line by line, over real connections."""

import hashlib
import json

import pytest

from gateway.errors import CoreRefused
from gateway.resumable.structured import read_dictionary
from gateway.settings import Limits, Server
from tests.support.raw_server import run
from tests.support.resumable import (
    AUTH,
    IETF,
    LAST,
    MORE,
    PARTIAL,
    PLACE,
    append_ietf,
    ask,
    chunked,
    encode,
    ietf,
    make_ietf,
    read,
)
from tests.support.upload_bench import ToldCore, core_away, upload_bench

DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()
HERE = "/uploads/" + PLACE


@pytest.mark.parametrize("version", [8, 6])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_in_one_request_is_answered_by_its_target(version: int, method: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            lines = (f"Upload-Draft-Interop-Version: {version}", AUTH, LAST)
            done = await ask(bench, method, HERE, *lines, body=DATA)
            assert (done.status, done["upload-complete"], done.offset) == (201, "?1", len(DATA))
            assert json.loads(done.body)["data"]["images"][0]["sha256"] == SHA
            assert done["upload-draft-interop-version"] == str(version)
            status, fields = done.interim[0]
            assert status == 104
            assert fields["location"] == done["location"]
            assert fields["upload-draft-interop-version"] == str(version)
            limits = read_dictionary([fields["upload-limit"]])
            assert limits is not None
            assert {"max-size", "max-age" if version == 8 else "expires"} <= set(limits)
            assert all(isinstance(value, int) and value > 0 for value in limits.values())
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize("line", ["", "Upload-Draft-Interop-Version: 3", "Upload-Draft-Interop-Version: ?1"])
def test_without_a_known_version_there_is_no_104_and_no_upload(line: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answer = await ask(bench, "POST", HERE, AUTH, LAST, *filter(None, (line,)), body=DATA)
            assert (answer.status, answer.interim) == (412, [])
            assert bench.is_clean

    run(story())


def test_a_setting_accepts_the_protocol_without_a_version() -> None:
    async def story() -> None:
        async with upload_bench(settings=Server(uploads_without_version=True)) as bench:
            made = await ask(bench, "POST", HERE, AUTH, MORE, body=DATA[:10])
            assert "upload-draft-interop-version" not in made.fields
            assert [status for status, _ in made.interim] == [104]
            url = made["location"]
            assert (await ask(bench, "HEAD", url)).offset == 10
            done = await ask(bench, "PATCH", url, PARTIAL, LAST, "Upload-Offset: 10", body=DATA[10:])
            assert (done.status, done["upload-complete"]) == (201, "?1")
            assert (await ask(bench, "DELETE", url)).status == 204

    run(story())


def test_an_upload_in_pieces_of_unknown_length() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            made = await ietf(bench, "POST", HERE, AUTH, MORE, body=DATA[:4000])
            assert (made.status, made["upload-complete"], made.offset) == (201, "?0", 4000)
            assert "upload-limit" in made.fields
            url = made["location"]
            for method in ("HEAD", "GET"):
                looked = await ietf(bench, method, url)
                assert (looked.status, looked.offset, looked["upload-complete"]) == (204, 4000, "?0")
                assert looked["cache-control"] == "no-store"
                assert "upload-limit" in looked.fields
                assert "upload-length" not in looked.fields
            more = await append_ietf(bench, url, 4000, DATA[4000:9000], MORE)
            assert (more.status, more["upload-complete"], more.offset) == (204, "?0", 9000)
            assert bench.keys == []
            done = await append_ietf(bench, url, 9000, DATA[9000:], LAST)
            assert (done.status, done["upload-complete"]) == (201, "?1")
            assert done["location"] == "https://r/tool"
            looked = await ietf(bench, "HEAD", url)
            assert (looked.offset, looked["upload-complete"], looked["upload-length"]) == (
                len(DATA),
                "?1",
                "15000",
            )
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_the_end_may_come_without_a_byte() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, body=DATA)
            assert bench.keys == []
            assert (await append_ietf(bench, url, len(DATA), b"", LAST)).status == 201
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            empty = await ietf(bench, "POST", HERE, AUTH, LAST, body=b"")
            assert (empty.status, empty.offset) == (201, 0)

    run(story())


def test_chunked_content_is_taken() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            await client.send(
                encode("POST", HERE, IETF, AUTH, LAST, "Transfer-Encoding: chunked") + chunked(DATA)
            )
            assert (await read(client)).offset == len(DATA)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 400),
        (("Upload-Complete: 1",), 400),
        (("Upload-Complete: true",), 400),
        (("Upload-Complete: ?1", "Upload-Complete: ?1"), 400),
        (("Upload-Complete: ?1;x=1",), 201),
        (("Upload-Complete: ?1", "Upload-Length: 15000"), 201),
        (("Upload-Complete: ?1", "Upload-Length: 15001"), 400),
        (("Upload-Complete: ?1", "Upload-Length: 14999"), 400),
        (("Upload-Complete: ?0", "Upload-Length: 14999"), 400),
        (("Upload-Complete: ?0", "Upload-Length: 16000"), 201),
        (("Upload-Complete: ?1", "Upload-Length: -1"), 201),
        (("Upload-Complete: ?1", 'Upload-Length: "x"'), 201),
        (("Upload-Complete: ?1", f"Upload-Length: {10**30}"), 201),
        (("Upload-Complete: ?0", f"Upload-Length: {10**15 - 1}"), 413),
        (("Upload-Complete: ?0", "Upload-Length: 20001"), 413),
    ],
)
def test_a_bad_field_is_ignored_and_a_contradiction_refused(lines: tuple[str, ...], status: int) -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(upload_bytes=20000)) as bench:
            answer = await ietf(bench, "POST", HERE, AUTH, *lines, body=DATA)
            assert answer.status == status
            if status >= 400:
                assert answer["upload-complete"] == "?0"
                assert answer.interim == []
                assert bench.is_clean
            if status == 413:
                assert "max-size" in answer["upload-limit"]

    run(story())


def test_an_inconsistent_length_is_the_problem_of_that_name() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answer = await ietf(bench, "POST", HERE, AUTH, LAST, "Upload-Length: 3", body=DATA)
            assert answer["content-type"] == "application/problem+json"
            value = json.loads(answer.body)
            assert value["type"].endswith("#inconsistent-upload-length")
            assert value["error"]["code"] == 400
            url = await make_ietf(bench, "Upload-Length: 15000", body=DATA[:10])
            for lines in ((MORE, "Upload-Length: 15001"), (LAST,)):
                assert (await append_ietf(bench, url, 10, b"xyz", *lines)).status == 400
            assert (await ietf(bench, "HEAD", url)).offset in {10, 13}

    run(story())


@pytest.mark.parametrize("offset", [0, 9, 11, 15000])
def test_a_wrong_offset_is_409_with_the_right_one(offset: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, body=DATA[:10])
            answer = await append_ietf(bench, url, offset, b"x", MORE)
            assert (answer.status, answer.offset, answer["upload-complete"]) == (409, 10, "?0")
            value = json.loads(answer.body)
            assert value["type"].endswith("#mismatching-upload-offset")
            assert (value["expected-offset"], value["provided-offset"]) == (10, offset)
            assert (await ietf(bench, "HEAD", url)).offset == 10

    run(story())


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((PARTIAL, MORE), 400),
        ((PARTIAL, MORE, "Upload-Offset: -1"), 400),
        ((PARTIAL, MORE, "Upload-Offset: 1.0"), 400),
        ((PARTIAL, MORE, f"Upload-Offset: {10**30}"), 400),
        ((PARTIAL, "Upload-Offset: 10"), 400),
        ((PARTIAL, "Upload-Complete: 0", "Upload-Offset: 10"), 400),
        ((MORE, "Upload-Offset: 10"), 415),
        ((MORE, "Upload-Offset: 10", "Content-Type: application/octet-stream"), 415),
    ],
)
def test_an_append_that_cannot_be_read_changes_nothing(lines: tuple[str, ...], status: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, body=DATA[:10])
            assert (await ietf(bench, "PATCH", url, *lines, body=b"abc")).status == status
            assert (await ietf(bench, "HEAD", url)).offset == 10

    run(story())


@pytest.mark.parametrize("how", ["sized", "chunked"])
def test_bytes_past_the_length_make_the_upload_void(how: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, "Upload-Length: 12", body=DATA[:10])
            if how == "sized":
                answer = await append_ietf(bench, url, 10, b"xyz", MORE)
            else:
                client = await bench.server.connect()
                lines = (IETF, PARTIAL, MORE, "Upload-Offset: 10", "Transfer-Encoding: chunked")
                await client.send(encode("PATCH", url, *lines) + chunked(b"xyz", size=2))
                answer = await read(client)
            assert answer.status == 400
            assert (await ietf(bench, "HEAD", url)).status == 404
            assert bench.is_clean
            assert bench.keys == []

    run(story())


def test_a_repeat_of_the_last_append_gets_the_kept_answer_and_anything_else_is_refused() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, body=DATA[:9000])
            first = await append_ietf(bench, url, 9000, DATA[9000:], LAST)
            for offset, body in ((9000, DATA[9000:]), (len(DATA), b"")):
                again = await append_ietf(bench, url, offset, body, LAST)
                assert (again.status, again.body, again["upload-complete"]) == (201, first.body, "?1")
            for offset, line in ((len(DATA), MORE), (0, LAST)):
                refused = await append_ietf(bench, url, offset, b"", line)
                assert refused.status == 400
                assert json.loads(refused.body)["type"].endswith("#completed-upload")
            assert len(bench.core.commits) == 1

    run(story())


def test_an_upload_can_be_removed_also_while_it_runs() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, body=DATA[:10])
            client = await bench.server.connect()
            await client.send(
                encode("PATCH", url, IETF, PARTIAL, LAST, "Upload-Offset: 10", body=DATA, length=10**6)
            )
            assert (await ietf(bench, "DELETE", url)).status == 204
            assert (await read(client)).status == 409
            assert (await ietf(bench, "HEAD", url)).status == 404
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize("target", ["/uploads/", "/uploads/" + "0" * 40])
def test_options_tells_the_limits(target: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            told = await ietf(bench, "OPTIONS", target)
            limits = read_dictionary([told["upload-limit"]])
            assert limits is not None
            assert limits["min-size"] == 0
            assert told["accept-patch"] == "application/partial-upload"

    run(story())


def test_100_continue_is_still_owed_after_a_104() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            lines = (IETF, AUTH, LAST, f"Content-Length: {len(DATA)}", "Expect: 100-continue")
            await client.send(encode("POST", HERE, *lines))
            assert [(await client.head())[0] for _ in range(2)] == [104, 100]
            await client.send(DATA)
            assert (await read(client)).status == 201

    run(story())


def test_http_1_0_gets_no_interim_answer() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            await client.send(
                encode("POST", HERE, IETF, AUTH, LAST, body=DATA).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
            )
            answer = await read(client)
            assert (answer.status, answer.interim) == (201, [])

    run(story())


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_the_core_is_asked_before_104_and_before_the_first_byte(status: int) -> None:
    core = ToldCore(refusal=CoreRefused(status, "No."))

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            client = await bench.server.connect()
            await client.send(
                encode("POST", HERE, IETF, AUTH, LAST, "Content-Length: 1000000", "Expect: 100-continue")
            )
            answer = await read(client)
            assert (answer.status, answer.interim) == (status, [])
            assert bench.is_clean

    run(story())


def test_a_core_that_is_away_at_the_end_makes_it_202_until_it_is_told() -> None:
    core = ToldCore(commit_refusal=core_away())

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            done = await ietf(bench, "POST", HERE, AUTH, LAST, body=DATA)
            assert (done.status, done["upload-complete"]) == (202, "?1")
            assert json.loads(done.body)["data"]["status"] == "pending"
            assert done["image-location"].startswith("/v2/uploads/")
            core.commit_refusal = None
            await bench.resources.outbox.flush()
            looked = await ietf(bench, "HEAD", done["location"])
            assert looked["image-location"] == "https://r/tool"

    run(story())
