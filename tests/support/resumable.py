"""Owns how tests speak to ``/uploads/``: one request in a line, in either protocol."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.raw_server import RawClient
from tests.support.upload_bench import UploadBench

TUS = "Tus-Resumable: 1.0.0"
AUTH = "Authorization: Bearer x"
BYTES = "Content-Type: application/offset+octet-stream"
IETF = "Upload-Draft-Interop-Version: 8"
PARTIAL = "Content-Type: application/partial-upload"
MORE, LAST = "Upload-Complete: ?0", "Upload-Complete: ?1"
PLACE = "?collection=alice/test&name=tool"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, and the interim ones before it."""

    status: int
    fields: dict[str, str]
    body: bytes = b""
    interim: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    @property
    def offset(self) -> int:
        """Upload-Offset."""
        return int(self.fields["upload-offset"])


def encode(
    method: str, target: str, *lines: str, body: bytes | None = None, length: int | None = None
) -> bytes:
    """The bytes of a request; ``length`` announces more than ``body`` has."""
    sized = () if body is None else (f"Content-Length: {len(body) if length is None else length}",)
    head = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: a", *lines, *sized))
    return head.encode("latin-1") + b"\r\n\r\n" + (body or b"")


async def read(client: RawClient, *, method: str = "GET") -> Answer:
    """The next final answer."""
    interim: list[tuple[int, dict[str, str]]] = []
    while True:
        status, fields, body = await client.answer(to_head=method == "HEAD")
        if status >= 200:
            return Answer(status, fields, body, interim)
        interim.append((status, fields))


async def ask(bench: UploadBench, method: str, target: str, *lines: str, body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    client = await bench.server.connect()
    sending = asyncio.gather(client.send(encode(method, target, *lines, body=body)), return_exceptions=True)
    answer = await read(client, method=method)
    client.close()
    await sending
    return answer


async def tus(bench: UploadBench, method: str, target: str, *lines: str, body: bytes | None = None) -> Answer:
    """The same in tus."""
    return await ask(bench, method, target, TUS, *lines, body=body)


async def make(bench: UploadBench, length: int, *lines: str) -> str:
    """A new tus upload; its URL."""
    made = await tus(bench, "POST", "/uploads/" + PLACE, AUTH, f"Upload-Length: {length}", *lines)
    assert made.status == 201, made
    return made["location"]


async def patch(bench: UploadBench, url: str, offset: int, body: bytes, *lines: str) -> Answer:
    """A tus PATCH."""
    return await tus(bench, "PATCH", url, BYTES, f"Upload-Offset: {offset}", *lines, body=body)


async def offset_of(bench: UploadBench, url: str) -> int:
    """Where a tus upload is."""
    return (await tus(bench, "HEAD", url)).offset


async def ietf(
    bench: UploadBench, method: str, target: str, *lines: str, body: bytes | None = None
) -> Answer:
    """One request in the IETF protocol, interop version 8."""
    return await ask(bench, method, target, IETF, *lines, body=body)


async def make_ietf(bench: UploadBench, *lines: str, body: bytes = b"") -> str:
    """A new upload of which more will come; its URL."""
    made = await ietf(bench, "POST", "/uploads/" + PLACE, AUTH, MORE, *lines, body=body)
    assert made.status == 201, made
    return made["location"]


async def append_ietf(bench: UploadBench, url: str, offset: int, body: bytes, *lines: str) -> Answer:
    """An append."""
    return await ietf(bench, "PATCH", url, PARTIAL, f"Upload-Offset: {offset}", *lines, body=body)


def chunked(data: bytes, *, size: int = 1000, trailer: str = "") -> bytes:
    """The chunked coding of ``data``."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n" + (f"{trailer}\r\n".encode() if trailer else b"") + b"\r\n"


def b64(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that is about to be true."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)
