"""Owns the workers: they share the port, one that dies is replaced, and nobody outlives the first process."""

import asyncio
import http.client
import os
import signal
import socket
from pathlib import Path

from gateway.supervise import Workers

GENEROUS_S = 30.0


def who_answers(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GENEROUS_S)
    try:
        connection.request("GET", "/")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def test_workers_share_the_port_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    async def story() -> tuple[int, ...]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            workers = Workers(
                2,
                arguments=(str(tmp_path),),
                sockets={"http": listener},
                module="tests.support.mini_gateway",
            )
            job = asyncio.ensure_future(workers.run())
            assert await workers.wait_ready(GENEROUS_S)
            first = workers.pids
            assert len(set(first)) == 2
            assert await asyncio.to_thread(who_answers, port) in first

            os.kill(first[0], signal.SIGKILL)
            async with asyncio.timeout(GENEROUS_S):
                while first[0] in workers.pids or len(workers.pids) < 2:
                    await asyncio.to_thread(who_answers, port)
                    await asyncio.sleep(0.02)
            assert first[1] in workers.pids
            assert await asyncio.to_thread(who_answers, port) in workers.pids
            last = workers.pids
            await workers.stop(5.0)
            await job
            return (*first, *last)

    for pid in asyncio.run(story()):
        assert not Path(f"/proc/{pid}").exists()


def test_workers_that_cannot_start_are_not_ready(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            workers = Workers(
                1, arguments=(), sockets={"http": listener}, module="tests.support.no_such_module"
            )
            job = asyncio.ensure_future(workers.run())
            assert not await workers.wait_ready(0.5)
            await workers.stop(5.0)
            await job

    asyncio.run(story())
