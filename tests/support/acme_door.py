"""Owns the place of a gateway that gets its certificate from Pebble, and its two listeners, for tests."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.acme.challenges import PATH_PREFIX, Challenges
from gateway.acme.keeper import Keeper, open_keeper
from gateway.net.tls import CertificateSource, open_source
from gateway.settings import Settings
from tests.support.pebble import Pebble, running_pebble
from tests.support.product import free_port

NAMES = ("registry.example", "www.registry.example")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a test's gateway keeps things and listens, and its authority."""

    data_dir: Path
    http_port: int
    tls_port: int
    pebble: Pebble

    def settings(self, **tls: object) -> Settings:
        return Settings.model_validate({"server": self.server(), "tls": {**self.tls(), **tls}})

    def server(self) -> dict[str, object]:
        return {
            "data_dir": self.data_dir,
            "http": f"127.0.0.1:{self.http_port}",
            "https": f"127.0.0.1:{self.tls_port}",
            "public_url": f"https://{NAMES[0]}",
            "server_names": NAMES,
        }

    def tls(self) -> dict[str, object]:
        return {
            "mode": "acme",
            "acme_directory": self.pebble.directory,
            "acme_ca_file": self.pebble.ca_file,
            "acme_email": "admin@registry.example",
        }


@contextmanager
def reluctant_place(folder: Path) -> Iterator[Place]:
    """A place whose authority rejects every third nonce and verifies each order anew."""
    http_port, tls_port = free_port(), free_port()
    reluctant = {"PEBBLE_WFE_NONCEREJECT": "30", "PEBBLE_AUTHZREUSE": "0"}
    with running_pebble(
        folder / "pebble", http_port=http_port, tls_port=tls_port, environment=reluctant
    ) as pebble:
        yield Place(data_dir=folder / "data", http_port=http_port, tls_port=tls_port, pebble=pebble)


def sources(settings: Settings) -> tuple[CertificateSource, Keeper]:
    source = open_source(settings)
    assert source is not None
    keeper = open_keeper(settings, source)
    assert keeper is not None
    return source, keeper


@asynccontextmanager
async def open_door(place: Place, source: CertificateSource, *, answers: bool = True) -> AsyncIterator[None]:
    """Both listeners of a gateway, as far as certificates are concerned."""
    challenges = Challenges(place.data_dir)

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        answer = challenges.http_answer(target.removeprefix(PATH_PREFIX)) if answers else None
        status = b"404 Not Found" if answer is None else b"200 OK"
        body = answer or b""
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)))
        writer.write(body)
        writer.close()

    async def secure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readline():
                writer.write(b"pong\n")
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        writer.close()

    one = await asyncio.start_server(plain, "127.0.0.1", place.http_port)
    other = await asyncio.start_server(secure, "127.0.0.1", place.tls_port, ssl=source.context)
    async with one, other:
        yield


async def ask(place: Place, context: ssl.SSLContext, name: str = NAMES[0]) -> bytes:
    """One request over a new connection; returns the leaf that was presented."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", place.tls_port, ssl=context, server_hostname=name
    )
    leaf: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"ping\n")
    assert await reader.readline() == b"pong\n"
    writer.close()
    return leaf


def trusting(place: Place) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=place.pebble.root().decode())


def anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def make_due(place: Place) -> None:
    # The turn runs in a process of its own, with the true time: what it remembers says that renewal is due.
    folder = place.data_dir / "acme"
    path = folder / "state.json"
    state = json.loads(path.read_text())
    state["renew_at"] = "2020-01-01T00:00:00+00:00"
    path.write_text(json.dumps(state))
