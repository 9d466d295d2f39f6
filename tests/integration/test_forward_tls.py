"""Owns the proof that an upstream behind TLS is verified, and used again like any other."""

import asyncio
import ssl

import pytest
import trustme

from gateway.errors import CoreDown
from gateway.forward.origin import DialHold
from gateway.forward.pool import UpstreamPool
from tests.support.forwarding import RUNNERS, Runner, soon

both_loops = pytest.mark.parametrize("run", RUNNERS)


@both_loops
def test_an_https_upstream_is_verified_and_kept(run: Runner) -> None:
    authority = trustme.CA()
    server_side, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(ours)

    async def main() -> None:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.readline():
                while await reader.readline() != b"\r\n":
                    pass
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
        origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = UpstreamPool(origin, connections=1, connect_s=5, tls=ours)
        for _ in range(3):
            answer = await soon(pool.call("GET", "/", (), b"", timeout_s=5))
            assert answer[2] == b"ok"
        assert connections == 1
        await pool.aclose()

        stranger = UpstreamPool(origin, connections=1, connect_s=5)
        with pytest.raises(CoreDown, match="certificate"):  # and not held: it will not mend itself
            await soon(stranger.call("GET", "/", (), b"", timeout_s=5, hold=DialHold(seconds=60)))
        await stranger.aclose()
        server.close()
        await asyncio.sleep(0.05)  # for the transports of the refused handshake

    run(main())
