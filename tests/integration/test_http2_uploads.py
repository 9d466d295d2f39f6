"""Web uploads over HTTP/2, seen from client and store: the stories of test_web_upload.py, by h2 and by curl."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.contract import UPLOAD_STATUS_PREFIX
from gateway.errors import CoreRefused, Unauthorized
from gateway.settings import Limits
from tests.support.http2_client import Http2Client, connect, server_tls
from tests.support.raw_server import run
from tests.support.upload_bench import ToldCore, UploadBench, core_away, upload_bench

AUTH = ("authorization", "Bearer x")
KIND = ("content-type", "multipart/form-data; boundary=B")
DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()
QUERY = "/upload?collection=alice/test"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    extra = f'; filename="{filename}"' if filename is not None else ""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


@asynccontextmanager
async def http2_bench(**options: Any) -> AsyncIterator[tuple[UploadBench, Http2Client]]:
    async with upload_bench(tls=server_tls(), **options) as bench:
        client = await connect(bench.server.port)
        try:
            yield bench, client
        finally:
            await client.close()


@pytest.mark.parametrize("is_sized", [True, False])
def test_an_upload_is_stored_under_its_digest_and_told_to_the_core(is_sized: bool) -> None:
    async def story() -> None:
        async with http2_bench() as (bench, client):
            body = form(part("name", b"Tool"), part("file", DATA, "x.sif"))
            length = (("content-length", str(len(body))),) if is_sized else ()
            answer = await client.ask("POST", QUERY, AUTH, KIND, *length, body=body)
            assert answer.status == 201
            image = json.loads(answer.body)["data"]["images"][0]
            assert image == {"ref": "tool:latest", "sha256": SHA, "size": len(DATA), "url": "https://r/tool"}
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert bench.core.commits[0].images[0].filename == "x.sif"
            assert bench.is_clean

    run(story())


def test_uploads_side_by_side_on_one_connection_are_each_whole() -> None:
    contents = [bytes([number]) * 3_000_000 for number in range(6)]

    async def story() -> None:
        async with http2_bench() as (bench, client):
            answers = await asyncio.gather(
                *(
                    client.ask("POST", QUERY, AUTH, KIND, body=form(part("f", content, f"image{number}.sif")))
                    for number, content in enumerate(contents)
                )
            )
            assert [answer.status for answer in answers] == [201] * 6
            digests = {hashlib.sha256(content).hexdigest() for content in contents}
            assert {key.rpartition(".")[2] for key in bench.keys} == digests
            assert bench.resources.pool.allocated_bytes <= 8 << 20

    run(story())


@pytest.mark.parametrize(
    ("body", "path", "fields", "status", "says"),
    [
        (form(part("file", DATA, "x")), "/upload", (AUTH,), 400, b"collection"),
        (form(part("name", b"x")), QUERY, (AUTH,), 400, b"no file"),
        (form(part("file", DATA, "x"), part("name", b"../x")), QUERY, (AUTH,), 400, b"cannot be the name"),
        (form(part("file", DATA, "x")), QUERY, (), 401, b"Bearer"),
        (part("file", DATA, "x"), QUERY, (AUTH,), 400, b""),
        (form(part("n", b"x" * 70_000), part("file", DATA, "x")), QUERY, (AUTH,), 413, b""),
    ],
)
def test_a_bad_upload_is_refused_with_a_sentence_and_leaves_nothing(
    body: bytes, path: str, fields: tuple[tuple[str, str], ...], status: int, says: bytes
) -> None:
    async def story() -> None:
        async with http2_bench() as (bench, client):
            answer = await client.ask("POST", path, KIND, *fields, body=body)
            assert answer.status == status
            assert says in answer.body
            assert bench.keys == []
            assert bench.is_clean

    run(story())


def test_the_core_is_asked_before_100_continue() -> None:
    core = ToldCore(refusal=CoreRefused(403, "Not yours."))

    async def story() -> None:
        async with http2_bench(core=core) as (_, client):
            length = ("content-length", str(10**10))
            stream = await client.begin("POST", QUERY, AUTH, KIND, length, ("expect", "100-continue"))
            answer = await client.answer(stream)
            assert (answer.status, answer.informed) == (403, [])
            assert core.questions[0].declared_bytes == 10**10

    run(story())


def test_an_upload_refused_in_mid_body_is_answered_and_leaves_nothing() -> None:
    core = ToldCore(refusal=Unauthorized("No."))

    async def story() -> None:
        async with http2_bench(core=core) as (bench, client):
            body = form(part("collection", b"a/b"), part("file", b"x" * 8_000_000, "x"))
            assert (await client.ask("POST", "/upload", AUTH, KIND, body=body)).status == 401
            assert bench.is_clean

    run(story())


def test_a_client_that_takes_its_upload_back_leaves_nothing() -> None:
    async def story() -> None:
        async with http2_bench() as (bench, client):
            stream = await client.begin("POST", QUERY, AUTH, KIND)
            await client.send(stream, part("file", b"x" * 2_000_000, "x"))
            client.h2.reset_stream(stream, 8)
            await client.flush()
            async with asyncio.timeout(5):
                while bench.resources.running.total or not bench.is_clean:
                    await asyncio.sleep(0.01)
            assert bench.keys == []

    run(story())


def test_without_the_core_the_upload_is_kept_and_the_client_told_where_to_look() -> None:
    async def story() -> None:
        async with http2_bench(core=ToldCore(commit_refusal=core_away())) as (_, client):
            answer = await client.ask("POST", QUERY, AUTH, KIND, body=form(part("file", DATA, "x")))
            assert answer.status == 202
            assert answer.fields["location"].startswith(UPLOAD_STATUS_PREFIX)

    run(story())


def test_a_file_over_the_limit_is_refused_by_its_bytes() -> None:
    async def story() -> None:
        async with http2_bench(limits=Limits(upload_bytes=1000)) as (bench, client):
            answer = await client.ask("POST", QUERY, AUTH, KIND, body=form(part("file", DATA, "x")))
            assert answer.status == 413
            assert bench.is_clean

    run(story())


def test_curl_uploads_by_http2_and_reads_a_refusal(tmp_path: Path) -> None:
    assert shutil.which("curl")
    file = tmp_path / "tool.sif"
    file.write_bytes(bytes(range(256)) * 40_000)

    async def story() -> None:
        async with upload_bench(tls=server_tls(), limits=Limits(upload_bytes=20_000_000)) as bench:

            async def curl(*arguments: str) -> str:
                command = ("curl", "-sk", "--http2", "-w", "\n%{http_version} %{http_code}", *arguments)
                base = f"https://localhost:{bench.server.port}"
                done = await asyncio.to_thread(
                    subprocess.run,
                    (*command, base + QUERY),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=30,
                )
                assert done.returncode == 0, done.stdout
                return done.stdout

            said = await curl("-H", "Authorization: Bearer x", "-F", f"file=@{file}")
            assert said.endswith("\n2 201")
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            assert bench.keys == [f"alice/test/tool:sha256.{digest}"]
            said = await curl("-F", f"file=@{file}")
            assert said.endswith("\n2 401")

    run(story())
