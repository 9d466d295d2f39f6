"""Content-Digest and Repr-Digest (RFC 9530) of resumable uploads."""

import hashlib

import pytest

from tests.support.raw_server import run
from tests.support.resumable import (
    AUTH,
    IETF,
    LAST,
    PLACE,
    append_ietf,
    b64,
    chunked,
    encode,
    ietf,
    make_ietf,
    read,
)
from tests.support.upload_bench import upload_bench

DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()
HERE = "/uploads/" + PLACE


def digest(name: str, data: bytes, algorithm: str = "sha-256") -> str:
    return f"{name}: {algorithm}=:{b64(hashlib.new(algorithm.replace('-', ''), data).digest())}:"


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_content_digest_is_verified_for_each_request(algorithm: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make_ietf(bench, digest("Content-Digest", DATA[:10], algorithm), body=DATA[:10])
            wrong = await append_ietf(
                bench, url, 10, DATA[10:], LAST, digest("Content-Digest", DATA, algorithm)
            )
            assert (wrong.status, wrong["upload-complete"]) == (422, "?0")
            assert (await ietf(bench, "HEAD", url)).offset == 10
            right = await append_ietf(
                bench, url, 10, DATA[10:], LAST, digest("Content-Digest", DATA[10:], algorithm)
            )
            assert right.status == 201
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]

    run(story())


def test_content_digest_may_come_behind_the_content() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            lines = (IETF, AUTH, LAST, "Transfer-Encoding: chunked", "Trailer: Content-Digest")
            for data, status in ((b"other", 422), (DATA, 201)):
                client = await bench.server.connect()
                coded = chunked(DATA, trailer=digest("Content-Digest", data))
                await client.send(encode("POST", HERE, *lines) + coded)
                assert (await read(client)).status == status

    run(story())


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_repr_digest_is_that_of_the_whole(algorithm: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            for promised, status in ((b"other", 422), (DATA, 201)):
                url = await make_ietf(bench, digest("Repr-Digest", promised, algorithm), body=DATA[:10])
                assert (await append_ietf(bench, url, 10, DATA[10:], LAST)).status == status
            assert bench.keys == [f"alice/test/tool:sha256.{SHA}"]
            assert len(bench.core.commits) == 1
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize(
    ("value", "status"),
    [("md5=:AAAA:", 201), ("sha-256=:AAAA:", 400), ("sha-256=1", 400), ("not a dictionary", 201), ("", 201)],
)
def test_a_digest_that_cannot_be_read_is_ignored_and_a_broken_one_refused(value: str, status: int) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            for name in ("Content-Digest", "Repr-Digest"):
                assert (
                    await ietf(bench, "POST", HERE, AUTH, LAST, f"{name}: {value}", body=DATA)
                ).status == status

    run(story())
