"""Owns a gateway of few words, to test the handover: every request is answered with the process id.

``python -m tests.support.mini_gateway PORT FOLDER [fail]``; with ``fail`` in the environment variable MINI it ends
instead of getting ready.
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

from gateway.control import Control
from gateway.handover import Handover, tell_ready
from gateway.supervise import inherited_sockets, worker_number


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = str(os.getpid()).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    writer.close()


async def serve(folder: Path) -> None:
    sockets = inherited_sockets(os.environ)
    if not sockets:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets = {"http": listener}
        (folder / "port").write_text(str(listener.getsockname()[1]))
    elif (folder / "fail").exists():
        sys.exit(3)
    ended = asyncio.Event()
    if worker_number(os.environ) is not None:
        async with await asyncio.start_server(answer, sock=sockets["http"]) as worker:
            tell_ready(os.environ)
            await worker.serve_forever()
    handover = Handover(
        arguments=sys.argv[1:],
        sockets=sockets,
        core=None,
        give_way=ended.set,
        module="tests.support.mini_gateway",
    )
    # A copy of the descriptor: closing a server must not close what is handed over later.
    server = await asyncio.start_server(answer, sock=sockets["http"].dup())
    control = Control(folder / "control.sock", {"upgrade": handover.command})
    control.bind()
    job = asyncio.ensure_future(control.run())
    (folder / "pid").write_text(str(os.getpid()))
    tell_ready(os.environ)
    await ended.wait()
    server.close()
    await server.wait_closed()  # the requests that were accepted
    job.cancel()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
