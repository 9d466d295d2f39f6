"""tus 1.0 concatenation: parts that are uploaded side by side become one image."""

import hashlib

import pytest

from tests.support.raw_server import run
from tests.support.resumable import (
    AUTH,
    PLACE,
    make,
    patch,
    tus,
)
from tests.support.upload_bench import UploadBench, upload_bench

DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()
UNKNOWN = "/uploads/" + "0" * 40


async def make_partial(bench: UploadBench, data: bytes) -> str:
    url = await make(bench, len(data), "Upload-Concat: partial")
    assert (await patch(bench, url, 0, data)).status == 204
    return url


@pytest.mark.parametrize("shape", ["relative", "absolute", "bare", "twice"])
def test_partial_uploads_become_one_in_the_order_given(shape: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            second = await make_partial(bench, DATA[6000:])
            first = await make_partial(bench, DATA[:6000])
            assert (await tus(bench, "HEAD", first))["upload-concat"] == "partial"
            assert bench.keys == []
            assert bench.core.commits == []
            urls = {
                "relative": f"{first} {second}",
                "absolute": f"http://a{first} https://A{second}",
                "bare": f"{first.removeprefix('/uploads/')} {second.removeprefix('/uploads/')}",
                "twice": f"{first} {first} {second}",
            }[shape]
            whole = DATA[:6000] + DATA if shape == "twice" else DATA
            made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, f"Upload-Concat: final;{urls}")
            assert (made.status, made["image-digest"]) == (201, f"sha256:{hashlib.sha256(whole).hexdigest()}")
            looked = await tus(bench, "HEAD", made["location"])
            assert looked["upload-concat"] == f"final;{urls}"
            assert (looked.offset, looked["upload-length"]) == (len(whole), str(len(whole)))
            assert (await patch(bench, made["location"], len(whole), b"")).status == 403
            assert (await patch(bench, made["location"], 0, b"x")).status == 403
            with bench.store.open(bench.keys[0]) as file:
                assert file.read() == whole
            for url in (first, second, made["location"]):
                assert (await tus(bench, "DELETE", url)).status == 204
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize(
    "concat",
    [
        "final;http://evil.example/uploads/" + "0" * 40, "final;//evil.example/uploads/" + "0" * 40,
        "final;http://127.0.0.1:6379/" + "0" * 40, "final;file:///etc/passwd", "final;/etc/passwd",
        "final;/uploads/../../etc/passwd", "final;gopher://a/uploads/" + "0" * 40, "final;http://[::1",
        "final;/uploads/" + "0" * 40, "final;/uploads/%00", "final;" + "0" * 40,
    ],
)  # fmt: skip
def test_only_own_uploads_can_be_joined(concat: str) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            answer = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, f"Upload-Concat: {concat}")
            assert answer.status in {400, 404}
            assert bench.is_clean

    run(story())


def test_what_is_unfinished_or_no_partial_cannot_be_joined_and_a_final_has_no_length() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            unfinished = await make(bench, 10, "Upload-Concat: partial")
            whole = await make(bench, len(DATA))
            await patch(bench, whole, 0, DATA)
            for url in (unfinished, whole):
                answer = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, f"Upload-Concat: final;{url}")
                assert answer.status == 400
            part = await make_partial(bench, b"abc")
            final = f"Upload-Concat: final;{part}"
            for line in ("Upload-Length: 3", "Upload-Defer-Length: 1"):
                assert (await tus(bench, "POST", "/uploads/" + PLACE, AUTH, final, line)).status == 400

    run(story())
