"""The tus 1.0 checklist, line by line, over real connections."""

import hashlib
from email.utils import parsedate_to_datetime

import pytest

from gateway.errors import CoreRefused
from gateway.settings import Limits
from tests.support.raw_server import run
from tests.support.resumable import (
    AUTH,
    BYTES,
    PLACE,
    TUS,
    ask,
    b64,
    chunked,
    encode,
    make,
    offset_of,
    patch,
    read,
    tus,
)
from tests.support.upload_bench import ToldCore, upload_bench

DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()
UNKNOWN = "/uploads/" + "0" * 40


def test_options_tells_versions_extensions_size_and_algorithms() -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(upload_bytes=1234)) as bench:
            for lines in ((), ("Tus-Resumable: 0.2.2",)):
                for target in ("/uploads", "/uploads/", UNKNOWN):
                    told = await ask(bench, "OPTIONS", target, *lines)
                    assert told.status == 204
                    assert told["tus-version"] == "1.0.0"
                    assert told["tus-max-size"] == "1234"
                    assert "sha1" in told["tus-checksum-algorithm"].split(",")
                    assert {
                        "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum",
                        "checksum-trailer", "termination", "concatenation",
                    } == set(told["tus-extension"].split(","))  # fmt: skip
                    assert told["upload-limit"].startswith("max-size=1234")

    run(story())


@pytest.mark.parametrize("version", ["", "0.2.2", "2.0.0", "1.0.0, 1.0.0"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_another_version_is_412_and_nothing_is_stored(version: str, method: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 10)
            lines = (f"Tus-Resumable: {version}",) if version else ()
            target = "/uploads/" + PLACE if method == "POST" else url
            said = (*lines, AUTH, BYTES, "Upload-Offset: 0", "Upload-Length: 10")
            answer = await ask(bench, method, target, *said, body=None if method == "HEAD" else b"12345")
            assert (answer.status, answer["tus-version"]) == (412, "1.0.0")
            assert answer["tus-resumable"] == "1.0.0"
            assert await offset_of(bench, url) == 0
            assert len(bench.core.questions) == 1

    run(story())


def test_an_upload_in_pieces_becomes_an_image_and_the_core_is_asked_first() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            meta = (
                f"collection {b64(b'alice/test')},filename {b64('tést.sif'.encode())},tag {b64(b'v1')},empty"
            )
            made = await tus(
                bench, "POST", "/uploads/", AUTH, f"Upload-Length: {len(DATA)}", f"Upload-Metadata: {meta}"
            )
            assert (made.status, made["tus-resumable"]) == (201, "1.0.0")
            assert bench.core.questions[0].authorization == "Bearer x"
            assert bench.core.questions[0].declared_bytes == len(DATA)
            parsedate_to_datetime(made["upload-expires"])
            url = made["location"]
            assert len(url.rpartition("/")[2]) * 4 >= 128
            for start in range(0, len(DATA), 4000):
                looked = await tus(bench, "HEAD", url)
                assert looked.status in {200, 204}
                assert looked.offset == start
                assert looked["upload-length"] == str(len(DATA))
                assert looked["cache-control"] == "no-store"
                assert looked["upload-metadata"] == meta
                done = await patch(bench, url, start, DATA[start : start + 4000])
                assert (done.status, done.offset) == (204, min(start + 4000, len(DATA)))
                assert "upload-expires" in done.fields
            assert done["image-location"] == "https://r/t-st"
            assert done["image-digest"] == f"sha256:{SHA}"
            assert bench.keys == [f"alice/test/t-st:sha256.{SHA}"]
            assert bench.core.commits[0].images[0].filename == "tést.sif"
            assert bench.core.commits[0].images[0].tag == "v1"
            assert bench.is_clean
            looked = await tus(bench, "HEAD", url)
            assert (looked.offset, looked["image-location"]) == (len(DATA), "https://r/t-st")

    run(story())


@pytest.mark.parametrize("offset", [0, 1, 4999, 5001, 15000, 15001])
def test_a_wrong_offset_is_409_and_changes_nothing(offset: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            await patch(bench, url, 0, DATA[:5000])
            answer = await patch(bench, url, offset, DATA[:100])
            assert answer.status == 409 if offset <= 14900 else answer.status in {409, 413}
            assert await offset_of(bench, url) == 5000

    run(story())


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Content-Type: application/octet-stream", "Upload-Offset: 0"), 415),
        (("Content-Type: application/offset+octet-streamx", "Upload-Offset: 0"), 415),
        (("Upload-Offset: 0",), 415),
        ((BYTES,), 400),
        ((BYTES, "Upload-Offset: -1"), 400),
        ((BYTES, "Upload-Offset: 1e3"), 400),
        ((BYTES, "Upload-Offset: +0"), 400),
        ((BYTES, "Upload-Offset: \xb2"), 400),
        ((BYTES, "Upload-Offset: 0", "Upload-Offset: 0"), 400),
        ((BYTES, f"Upload-Offset: {10**30}"), 413),
        ((BYTES, f"Upload-Offset: {2**63}"), 413),
        ((BYTES, f"Upload-Offset: {'9' * 4000}"), 400),
    ],
)
def test_a_patch_that_cannot_be_read_is_refused_and_changes_nothing(
    lines: tuple[str, ...], status: int
) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            answer = await tus(bench, "PATCH", url, *lines, body=DATA)
            assert (answer.status, answer["tus-resumable"]) == (status, "1.0.0")
            assert await offset_of(bench, url) == 0

    run(story())


@pytest.mark.parametrize(
    "target",
    [
        UNKNOWN, "/uploads/x", "/uploads/%00", "/uploads/" + "0" * 40 + "%00", "/uploads/..%2f..%2fregistry.db",
        "/uploads/" + "A" * 40, "/uploads/" + "0" * 4000, "/uploads/%ff%fe", "/uploads/" + "0" * 40 + "/x",
        "/uploads//", "/uploads/" + "0" * 40 + ".json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_what_is_no_upload_is_404_without_an_offset(target: str, method: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answer = await tus(
                bench, method, target, BYTES, "Upload-Offset: 0", body=None if method == "HEAD" else b"x"
            )
            assert answer.status in {404, 405}
            assert "upload-offset" not in answer.fields

    run(story())


@pytest.mark.parametrize("how", ["sized", "chunked"])
def test_more_bytes_than_the_length_are_never_stored(how: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 8)
            await patch(bench, url, 0, b"1234")
            if how == "sized":
                answer = await patch(bench, url, 4, b"56789")
            else:
                client = await bench.server.connect()
                head = (TUS, BYTES, "Upload-Offset: 4", "Transfer-Encoding: chunked")
                await client.send(encode("PATCH", url, *head) + chunked(b"56789", size=2))
                answer = await read(client)
            assert answer.status == 413
            assert await offset_of(bench, url) <= 8
            assert all(upload.size <= 8 for upload in bench.store.uploads())
            assert bench.core.commits == []

    run(story())


def test_chunked_content_is_taken() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            client = await bench.server.connect()
            head = (TUS, BYTES, "Upload-Offset: 0", "Transfer-Encoding: chunked")
            await client.send(encode("PATCH", url, *head) + chunked(DATA))
            assert (await read(client)).offset == len(DATA)
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


@pytest.mark.parametrize("meant", ["PATCH", "DELETE", "HEAD"])
def test_a_method_override_counts(meant: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 8)
            lines = (f"X-HTTP-Method-Override: {meant}", BYTES, "Upload-Offset: 0")
            answer = await tus(bench, "POST", url, *lines, body=b"1234" if meant == "PATCH" else b"")
            assert answer.status in {200, 204}
            looked = await tus(bench, "HEAD", url)
            assert looked.status == (404 if meant == "DELETE" else 204)
            assert meant != "PATCH" or looked.offset == 4

    run(story())


def test_a_safe_method_is_never_overridden_for_maintenance_lets_it_pass() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 8)
            for method in ("GET", "HEAD", "OPTIONS"):
                await tus(bench, method, url, "X-HTTP-Method-Override: DELETE")
            assert await offset_of(bench, url) == 0

    run(story())


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 400),
        (("Upload-Length: -1",), 400),
        (("Upload-Length: abc",), 400),
        (("Upload-Length: 1.5",), 400),
        (("Upload-Length: 5", "Upload-Length: 5"), 400),
        (("Upload-Length: 5", "Upload-Defer-Length: 1"), 400),
        (("Upload-Defer-Length: 2",), 400),
        (("Upload-Defer-Length: 0",), 400),
        (("Upload-Defer-Length: true",), 400),
        ((f"Upload-Length: {2**63}",), 413),
        ((f"Upload-Length: {10**30}",), 413),
        (("Upload-Length: 1001",), 413),
        (("Upload-Length: 5", "Upload-Metadata: a b c"), 400),
        (("Upload-Length: 5", "Upload-Metadata: a !!!"), 400),
        (("Upload-Length: 5", "Upload-Metadata: a YQ==,a Yg=="), 400),
        (("Upload-Length: 5", "Upload-Metadata: a YQ==,,b Yg=="), 400),
        (("Upload-Length: 5", "Upload-Metadata: t\xe9 YQ=="), 400),
        (("Upload-Length: 5", "Upload-Concat: nonsense"), 400),
        (("Upload-Concat: final;",), 400),
        (("Upload-Concat: final",), 400),
    ],
)
def test_a_creation_that_cannot_be_read_is_refused(lines: tuple[str, ...], status: int) -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(upload_bytes=1000)) as bench:
            answer = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, *lines)
            assert (answer.status, answer["tus-resumable"]) == (status, "1.0.0")
            assert "location" not in answer.fields
            assert bench.is_clean

    run(story())


def test_the_limit_is_exact_and_the_ticket_may_be_stricter() -> None:
    async def story() -> None:
        async with upload_bench(limits=Limits(upload_bytes=1000), core=ToldCore(max_bytes=500)) as bench:
            assert (await tus(bench, "POST", "/uploads" + PLACE, AUTH, "Upload-Length: 501")).status == 413
            assert (await tus(bench, "POST", "/uploads" + PLACE, AUTH, "Upload-Length: 500")).status == 201

    run(story())


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        ("/uploads/" + PLACE, (), 401),
        ("/uploads/", (AUTH,), 400),
        ("/uploads/?collection=x", (AUTH,), 400),
        ("/uploads/?collection=a/..", (AUTH,), 400),
        ("/uploads/?collection=a/b&name=../x", (AUTH,), 400),
        ("/uploads/?collection=a/b&tag=a%20b", (AUTH,), 400),
        ("/uploads/?" + "&".join(f"f{n}=1" for n in range(150)), (AUTH,), 400),
    ],
)
def test_who_may_not_or_does_not_say_where_is_refused(
    target: str, lines: tuple[str, ...], status: int
) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answer = await tus(bench, "POST", target, *lines, "Upload-Length: 5")
            assert answer.status == status
            assert status != 401 or "www-authenticate" in answer.fields
            assert bench.core.questions == []

    run(story())


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_what_the_core_refuses_is_refused_before_the_first_byte(status: int) -> None:
    core = ToldCore(refusal=CoreRefused(status, "No."))

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            client = await bench.server.connect()
            lines = (
                TUS,
                AUTH,
                BYTES,
                f"Upload-Length: {10**9}",
                f"Content-Length: {10**9}",
                "Expect: 100-continue",
            )
            await client.send(encode("POST", "/uploads/" + PLACE, *lines))
            answer = await read(client)
            assert (answer.status, answer.interim) == (status, [])
            assert answer["tus-resumable"] == "1.0.0"
            assert bench.is_clean

    run(story())


def test_a_browser_session_sends_its_csrf_token() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            await tus(
                bench, "POST", "/uploads/" + PLACE, "Cookie: session=1", "X-CSRF-Token: t", "Upload-Length: 5"
            )
            assert (bench.core.questions[0].cookie, bench.core.questions[0].csrf_token) == ("session=1", "t")

    run(story())


def test_the_final_request_may_be_repeated() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, len(DATA))
            first = await patch(bench, url, 0, DATA)
            again = await patch(bench, url, len(DATA), b"")
            assert (again.status, again["image-location"]) == (204, first["image-location"])
            assert (await patch(bench, url, len(DATA), b"more")).status == 413
            assert len(bench.core.commits) == 1

    run(story())


def test_a_core_that_refuses_at_the_end_is_obeyed_also_when_asked_again() -> None:
    core = ToldCore(commit_refusal=CoreRefused(409, "The tag is frozen."))

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            url = await make(bench, len(DATA))
            for _ in range(2):
                answer = await patch(bench, url, 0, DATA)
                assert answer.status == 409
                assert b"frozen" in answer.body
            assert (await tus(bench, "HEAD", url)).status == 409
            assert bench.keys == []
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_other_methods_on_an_upload_are_405(method: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 5)
            answer = await tus(bench, method, url)
            assert (answer.status, "PATCH" in answer["allow"]) == (405, True)
            answer = await tus(bench, "PATCH", "/uploads/", BYTES, "Upload-Offset: 0", body=b"x")
            assert (answer.status, "POST" in answer["allow"]) == (405, True)

    run(story())
