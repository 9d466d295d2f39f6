"""Pages of other origins and resumable uploads, over real connections."""

import pytest

from gateway.errors import CoreRefused
from gateway.settings import Server
from tests.support.raw_server import run
from tests.support.resumable import AUTH, BYTES, IETF, PLACE, TUS, ask, make, tus
from tests.support.upload_bench import ToldCore, upload_bench

ORIGIN = "Origin: https://app.example"
OPEN = Server(cors_origins=("https://app.example",))


def test_a_preflight_of_a_listed_origin_is_answered_for_every_upload() -> None:
    async def story() -> None:
        async with upload_bench(settings=OPEN) as bench:
            for target in ("/uploads/", "/uploads/" + "0" * 40):
                lines = (
                    ORIGIN,
                    "Access-Control-Request-Method: PATCH",
                    "Access-Control-Request-Headers: upload-offset",
                )
                told = await ask(bench, "OPTIONS", target, *lines)
                assert told.status == 204
                assert told["access-control-allow-origin"] == "https://app.example"
                assert "PATCH" in told["access-control-allow-methods"]
                assert "upload-offset" in told["access-control-allow-headers"].lower()

    run(story())


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 413, 415, 460])
def test_refusals_can_be_read_by_the_page_too(status: int) -> None:
    core = ToldCore(max_bytes=100)

    async def story() -> None:
        async with upload_bench(settings=OPEN, core=core) as bench:
            url = await make(bench, 50)
            core.refusal = CoreRefused(403, "No.") if status == 403 else None
            checksum = "Upload-Checksum: sha1 " + "A" * 27 + "="
            answer = await {
                401: lambda: tus(bench, "POST", "/uploads/" + PLACE, ORIGIN, "Upload-Length: 1"),
                403: lambda: tus(bench, "POST", "/uploads/" + PLACE, ORIGIN, AUTH, "Upload-Length: 1"),
                404: lambda: tus(bench, "HEAD", "/uploads/x", ORIGIN),
                409: lambda: tus(bench, "PATCH", url, ORIGIN, BYTES, "Upload-Offset: 1", body=b"x"),
                412: lambda: ask(bench, "HEAD", url, ORIGIN),
                413: lambda: tus(bench, "POST", "/uploads/" + PLACE, ORIGIN, AUTH, "Upload-Length: 101"),
                415: lambda: tus(bench, "PATCH", url, ORIGIN, "Upload-Offset: 0", body=b"x"),
                460: lambda: tus(bench, "PATCH", url, ORIGIN, BYTES, "Upload-Offset: 0", checksum, body=b"x"),
            }[status]()
            assert answer.status == status
            assert answer["access-control-allow-origin"] == "https://app.example"
            assert "upload-offset" in answer["access-control-expose-headers"].lower()

    run(story())


def test_without_the_setting_and_for_other_origins_nothing_is_allowed() -> None:
    async def story() -> None:
        for settings, origin in ((Server(), ORIGIN), (OPEN, "Origin: https://evil.example")):
            async with upload_bench(settings=settings) as bench:
                for line in (TUS, IETF):
                    told = await ask(
                        bench, "OPTIONS", "/uploads/", line, origin, "Access-Control-Request-Method: POST"
                    )
                    assert told.status == 204
                    assert not [name for name in told.fields if name.startswith("access-control")]

    run(story())
