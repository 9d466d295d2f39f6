"""The bytes of library pushes: one body for one ticket, or parts in any order."""

import hashlib
import time

import pytest

from gateway.contract import Ticket, TicketQuestion, seal
from tests.support.raw_server import RawClient, run
from tests.support.upload_bench import SECRET, ToldCore, upload_bench

AUTH = "Authorization: Bearer x\r\n"
DATA = b"SIF" * 5000
SHA = hashlib.sha256(DATA).hexdigest()


def ticket(**values: object) -> str:
    base = {
        "kind": "image",
        "id": "1" * 32,
        "entity": "a",
        "collection": "b",
        "container": "c",
        "sha256": SHA,
    }
    made = Ticket(**{**base, "size": len(DATA), "expires": int(time.time()) + 60, **values})  # type: ignore[arg-type]
    return seal(SECRET, made)


async def put(
    client: RawClient, token: str, body: bytes, extra: str = ""
) -> tuple[int, dict[str, str], bytes]:
    head = f"PUT /v2/transfers/{token} HTTP/1.1\r\nHost: a\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    await client.send(head.encode() + body)
    return await client.answer()


def test_a_push_with_a_ticket_is_exactly_200_and_may_be_repeated() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            for _ in range(2):
                client = await bench.server.connect()
                status, fields, _ = await put(client, ticket(), DATA)
                assert (status, fields["etag"]) == (200, f'"{SHA}"')
            assert bench.keys == [f"a/b/c:sha256.{SHA}"]
            assert bench.is_clean

    run(story())


@pytest.mark.parametrize(
    ("values", "body", "extra", "status"),
    [
        ({}, DATA[:-1], "", 422),
        ({}, DATA + b"x", "", 422),
        ({}, b"x" * len(DATA), "", 422),
        ({"sha256": ""}, DATA, f"X-Amz-Content-Sha256: {'0' * 64}\r\n", 422),
        ({"expires": 1}, DATA, "", 404),
        ({"kind": "web"}, DATA, "", 404),
    ],
)
def test_a_push_that_breaks_its_promise_is_refused_and_leaves_nothing(
    values: dict[str, object], body: bytes, extra: str, status: int
) -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            assert (await put(client, ticket(**values), body, extra))[0] == status
            assert bench.keys == []
            assert bench.is_clean

    run(story())


def test_a_forged_ticket_is_404() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            for token in ("", "x", ticket()[:-1] + "B", "é" * 3, ticket().replace(".", "..")):
                client = await bench.server.connect()
                assert (await put(client, token.encode("ascii", "ignore").decode(), DATA))[0] in {404, 400}
            assert bench.keys == []

    run(story())


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 1, 2], [1, 1, 2, 3], [2, 3, 1]])
def test_parts_in_any_order_make_the_whole_file(order: list[int]) -> None:
    size = 6000
    pieces = {n: DATA[(n - 1) * size : n * size] for n in (1, 2, 3)}

    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            for number in order:
                token = ticket(kind="part", part_number=number, part_size=size)
                status, fields, _ = await put(client, token, pieces[number])
                assert status == 200
                assert fields["etag"] == f'"{hashlib.sha256(pieces[number]).hexdigest()}"'
            assert bench.keys == [f"a/b/c:sha256.{SHA}"]
            assert bench.core.commits[0].images[0].sha256 == SHA
            assert bench.is_clean

    run(story())


def test_a_damaged_part_is_refused_and_can_be_sent_again() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            good = hashlib.sha256(DATA[:8000]).hexdigest()
            first = ticket(kind="part", part_number=1, part_size=8000, part_sha256=good)
            assert (await put(client, first, b"y" * 8000))[0] == 422
            assert (await put(client, first, DATA[:7999]))[0] == 422
            assert (await put(client, first, DATA[:8000]))[0] == 200
            assert (await put(client, ticket(kind="part", part_number=2, part_size=8000), DATA[8000:]))[
                0
            ] == 200
            assert bench.keys == [f"a/b/c:sha256.{SHA}"]
            assert (await put(client, ticket(kind="part", part_number=9, part_size=8000), b"x"))[0] == 400

    run(story())


def test_a_whole_that_is_not_what_was_promised_is_refused_at_its_last_part() -> None:
    async def story() -> None:
        async with upload_bench() as bench:
            client = await bench.server.connect()
            wrong = {"kind": "part", "part_size": 8000, "sha256": "0" * 64}
            assert (await put(client, ticket(**wrong, part_number=1), DATA[:8000]))[0] == 200
            assert (await put(client, ticket(**wrong, part_number=2), DATA[8000:]))[0] == 422
            assert bench.keys == []
            assert bench.is_clean

    run(story())


def test_the_old_one_call_push_asks_the_core_with_the_clients_own_token() -> None:
    class OldCore(ToldCore):
        async def ask(self, question: TicketQuestion, *, request_id: str) -> tuple[Ticket, str]:
            self.questions.append(question)
            made = Ticket(
                kind="image",
                id="2" * 32,
                entity="a",
                collection="b",
                container="c",
                image_id=question.image_id,
            )
            return made, seal(SECRET, made)

    core = OldCore()

    async def story() -> None:
        async with upload_bench(core=core) as bench:
            client = await bench.server.connect()
            await client.send(
                f"POST /v1/imagefile/17 HTTP/1.1\r\nHost: a\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()
                + DATA
            )
            assert (await client.answer())[0] == 401
            client = await bench.server.connect()
            await client.send(
                f"POST /v1/imagefile/17 HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Length: {len(DATA)}\r\n\r\n".encode()
                + DATA
            )
            assert (await client.answer())[0] == 200
            assert (core.questions[0].image_id, core.questions[0].authorization) == ("17", "Bearer x")
            assert bench.keys == [f"a/b/c:sha256.{SHA}"]

    run(story())
