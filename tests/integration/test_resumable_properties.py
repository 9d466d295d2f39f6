"""Whatever a client does, in whatever order: offsets never go down, and the file is the one that was sent."""

import asyncio
import hashlib
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.raw_server import run
from tests.support.resumable import (
    AUTH,
    BYTES,
    PLACE,
    TUS,
    b64,
    encode,
    make,
    offset_of,
    patch,
    read,
    tus,
)
from tests.support.upload_bench import UploadBench, upload_bench

LONGEST = 200_000


@dataclass(frozen=True, slots=True)
class Step:
    """One request: so many bytes, from an offset that may be wrong, with or without a checksum, whole or cut."""

    kind: str
    size: int
    off_by: int


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(["plain", "plain", "checked", "damaged", "cut", "stalled", "look"]),
        size=st.integers(0, 90_000),
        off_by=st.sampled_from([0, 0, 0, 0, -1, 1, 7000]),
    ),
    max_size=12,
)


async def take(bench: UploadBench, url: str, data: bytes, offset: int, step: Step) -> None:
    start = max(0, offset + step.off_by)
    piece = data[start : start + step.size]
    digest = hashlib.sha1(piece).digest()
    match step.kind:
        case "look":
            assert await offset_of(bench, url) == offset
        case "checked":
            await patch(bench, url, start, piece, f"Upload-Checksum: sha1 {b64(digest)}")
        case "damaged":
            damaged = bytes(255 - byte for byte in piece) or b"x"
            await patch(bench, url, start, damaged, f"Upload-Checksum: sha1 {b64(digest)}")
        case "cut" | "stalled":
            client = await bench.server.connect()
            length = max(len(data) - start, len(piece))
            lines = (TUS, BYTES, f"Upload-Offset: {start}")
            await client.send(encode("PATCH", url, *lines, body=piece, length=length))
            if step.kind == "cut":
                client.writer.write_eof()
                await client.rest()
        case _:
            await patch(bench, url, start, piece)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, LONGEST), STEPS, st.randoms(use_true_random=False), st.booleans())
def test_the_file_is_the_one_that_was_sent(
    length: int, steps: list[Step], random: object, deferred: bool
) -> None:
    data = hashlib.shake_256(length.to_bytes(4)).digest(length)

    async def story() -> None:
        async with upload_bench() as bench:
            if deferred:
                made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, "Upload-Defer-Length: 1")
                url = made["location"]
            else:
                url = await make(bench, length)
            offset = 0
            for step in steps:
                await take(bench, url, data, offset, step)
                known = await offset_of(bench, url)
                assert offset <= known <= length
                offset = known
            said = (f"Upload-Length: {length}",) if deferred else ()
            done = await patch(bench, url, offset, data[offset:], *said)
            assert done.status == 204
            assert done["image-digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            [key] = bench.keys
            with bench.store.open(key) as file:
                assert file.read() == data
            assert len(bench.core.commits) == 1
            assert bench.is_clean

    run(story())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["OPTIONS", "HEAD", "GET", "POST", "PUT", "PATCH", "DELETE", "MKCOL"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata",
                    "Upload-Checksum", "Upload-Concat", "Upload-Complete", "Upload-Draft-Interop-Version",
                    "Content-Type", "Content-Digest", "Repr-Digest", "X-HTTP-Method-Override", "Trailer", "Origin",
                ]
            ),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
            | st.sampled_from(
                ["1.0.0", "8", "6", "?1", "?0", "0", "-1", "9" * 30, "application/offset+octet-stream",
                 "application/partial-upload", "partial", "final;/uploads/x", "sha1 AAAA", "a YQ==", "PATCH"]
            ),
        ),
        max_size=8,
    ),
)  # fmt: skip
def test_no_request_makes_a_5xx_or_a_stray_byte(
    method: str, path: str, fields: list[tuple[str, str]]
) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            url = await make(bench, 100)
            await patch(bench, url, 0, b"x" * 10)
            for target in (url, "/uploads/" + path):
                client = await bench.server.connect()
                lines = [f"{name}: {value}" for name, value in fields]
                await client.send(encode(method, target, AUTH, *lines, body=b"abc"))
                answer = await read(client, method=method)
                assert answer.status < 500, (answer, method, target, fields)
                client.close()
            await asyncio.sleep(0)

    run(story())
