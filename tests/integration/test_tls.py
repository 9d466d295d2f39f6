"""Real handshakes against the TLS listener's context, on asyncio and on uvloop."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from gateway.net.certificate import chain_pem, key_pem, parse_certificates
from gateway.net.dev_ca import ensure_leaf
from gateway.net.tls import CertificateSource, open_source
from gateway.settings import Settings
from tests.support.certificates import rsa_chain

type Runner = Callable[[Coroutine[object, object, None]], None]


def on_asyncio(story: Coroutine[object, object, None]) -> None:
    asyncio.run(story)


def on_uvloop(story: Coroutine[object, object, None]) -> None:
    uvloop.run(story)


def dev_source(data_dir: Path, **tls: object) -> CertificateSource:
    settings = Settings.model_validate({"server": {"data_dir": data_dir}, "tls": tls})
    source = open_source(settings)
    assert source is not None
    return source


def files_source(certificate: Path, key: Path, **tls: object) -> CertificateSource:
    return dev_source(Path("unused"), mode="files", certificate=certificate, key=key, **tls)


async def listen(source: CertificateSource) -> tuple[asyncio.Server, int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"\r\n":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")
            elif not line.startswith((b"GET", b"Host", b"User", b"Accept")):
                writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=source.context)
    return server, server.sockets[0].getsockname()[1]


def client_context(ca: Path, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, version in versions.items():
        setattr(context, name, version)
    return context


def presented(port: int, context: ssl.SSLContext, name: str = "localhost") -> tuple[bytes, str, str]:
    """The leaf, version and protocol that a new client gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        leaf = tls.getpeercert(binary_form=True)
        assert leaf is not None
        return leaf, tls.version() or "", tls.selected_alpn_protocol() or ""


@pytest.mark.parametrize("run", [on_asyncio, on_uvloop])
def test_a_reload_serves_the_next_handshake_and_cuts_no_connection(run: Runner, tmp_path: Path) -> None:
    first, second = rsa_chain(["localhost"]), ensure_leaf(tmp_path / "other", [])
    certificate, key, roots = tmp_path / "chain.pem", tmp_path / "domain.key", tmp_path / "roots.pem"
    certificate.write_bytes(first.chain)
    key.write_bytes(first.key)
    roots.write_bytes(first.root + (tmp_path / "other" / "ca.crt").read_bytes())
    source = files_source(certificate, key)

    async def story() -> None:
        server, port = await listen(source)
        async with server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(roots), server_hostname="localhost"
            )
            old, _, _ = await asyncio.to_thread(presented, port, client_context(roots))
            certificate.write_bytes(chain_pem(second.chain))
            assert "is not the key of" in source.reload()
            assert (await asyncio.to_thread(presented, port, client_context(roots)))[0] == old
            key.write_bytes(key_pem(second.key))
            assert source.reload() == ""
            new, _, _ = await asyncio.to_thread(presented, port, client_context(roots))
            assert new != old
            assert parse_certificates(ssl.DER_cert_to_PEM_cert(new).encode(), "new")[0] == second.leaf
            writer.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
            writer.close()

    run(story())


@pytest.mark.parametrize("run", [on_asyncio, on_uvloop])
def test_versions_and_protocols_follow_the_profile(run: Runner, tmp_path: Path) -> None:
    intermediate, modern = dev_source(tmp_path), dev_source(tmp_path, profile="modern")
    ca = tmp_path / "tls" / "ca.crt"
    old_client = client_context(ca, maximum_version=ssl.TLSVersion.TLSv1_2)

    async def story() -> None:
        server, port = await listen(intermediate)
        async with server:
            assert (await asyncio.to_thread(presented, port, client_context(ca)))[1:] == (
                "TLSv1.3",
                "http/1.1",
            )
            assert (await asyncio.to_thread(presented, port, old_client))[1:] == ("TLSv1.2", "http/1.1")
        server, port = await listen(modern)
        async with server:
            assert (await asyncio.to_thread(presented, port, client_context(ca)))[1] == "TLSv1.3"
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                await asyncio.to_thread(presented, port, old_client)

    run(story())


@pytest.mark.parametrize("run", [on_asyncio, on_uvloop])
def test_strict_sni_refuses_names_the_certificate_does_not_cover(run: Runner, tmp_path: Path) -> None:
    source = dev_source(tmp_path, strict_sni=True)
    context = client_context(tmp_path / "tls" / "ca.crt")
    context.check_hostname = False

    async def story() -> None:
        server, port = await listen(source)
        async with server:
            await asyncio.to_thread(presented, port, context, "localhost")
            with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
                await asyncio.to_thread(presented, port, context, "elsewhere.example")

    run(story())


@pytest.mark.parametrize("run", [on_asyncio, on_uvloop])
@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml"])
def test_plain_http_on_the_tls_port_gets_a_sentence(run: Runner, accept: str, tmp_path: Path) -> None:
    source = dev_source(tmp_path)

    async def story() -> None:
        server, port = await listen(source)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            body = (await reader.readexactly(int(fields["content-length"]))).decode()
            assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
            assert "This port speaks HTTPS: write https:// in front of the address." in body
            if accept == "*/*":
                assert json.loads(body)["request_id"] == fields["x-request-id"]
            else:
                assert "<h1>400 Bad Request</h1>" in body
                assert fields["x-request-id"] in body
            writer.close()

    run(story())


def test_curl_trusts_the_dev_ca_for_every_local_name(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl
    source = dev_source(tmp_path)

    async def story() -> None:
        server, port = await listen(source)
        async with server:
            for host in ("localhost", "127.0.0.1"):
                command = [
                    curl,
                    "-sS",
                    "--cacert",
                    str(tmp_path / "tls" / "ca.crt"),
                    f"https://{host}:{port}/",
                ]
                done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20)
                assert done.stdout == b"ok\n", done.stderr

    asyncio.run(story())
