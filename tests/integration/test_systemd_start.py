"""Owns the proof that the product does as its units say: ports from systemd, and the words that systemd waits for."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.product import BIN, Product

GENEROUS_S = 30.0
# The process itself becomes the program, as LISTEN_PID has to be its own.
_LAUNCHER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 50) for number in sys.argv[1].split(",")]
for place, number in enumerate(high):
    os.dup2(number, 3 + place)
    os.close(number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Systemd:
    """What systemd does for a service with ``Type=notify`` and two sockets: no more than that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.sockets = {name: _listening() for name in ("https", "http")}
        self._inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inbox.bind(str(folder / "notify"))
        self._inbox.settimeout(0.2)
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "gateway.log"

    def _read(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                self.said += self._inbox.recv(4096).decode().split("\n")

    def start(self, *words: str) -> int:
        """The service as systemd starts it: sockets from 3 on, LISTEN_PID its own."""
        files = [sock.fileno() for sock in self.sockets.values()]
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": "1000000",
            "LISTEN_FDS": str(len(files)),
            "LISTEN_FDNAMES": ":".join(self.sockets),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, ",".join(map(str, files)), *words],
                env=environ,
                pass_fds=files,
                stdout=log,
                stderr=log,
            )
        return self._process.pid

    def hears(self, pattern: str) -> str:
        """Wait for a word of the service."""
        deadline = time.monotonic() + GENEROUS_S
        while time.monotonic() < deadline:
            for word in tuple(self.said):
                if re.fullmatch(pattern, word):
                    return word
            time.sleep(0.02)
        raise AssertionError(f"not said: {pattern}; said: {self.said}\n{self.log.read_text()}")

    def forget(self) -> None:
        self.said.clear()

    def wait_main(self) -> int:
        assert self._process is not None
        return self._process.wait(GENEROUS_S)

    def close(self) -> None:
        for pid in processes.processes_naming(str(self.folder / "data")):
            processes.send(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(GENEROUS_S)
        self._over.set()
        self._reader.join()
        self._inbox.close()
        for sock in self.sockets.values():
            sock.close()


def _listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    sock.setblocking(False)
    return sock


@pytest.fixture
def systemd(short_path: Path) -> Iterator[Systemd]:
    with closing(Systemd(short_path)) as running:
        yield running


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_product_as_systemd_runs_it(systemd: Systemd, workers: str) -> None:
    product = Product(systemd.folder, settings={}, flags=())
    product.https_port = systemd.sockets["https"].getsockname()[1]
    product.base = f"https://localhost:{product.https_port}"
    http_port = systemd.sockets["http"].getsockname()[1]
    first = systemd.start(
        str(BIN / "gateway"), "serve", "--data-dir", str(product.data_dir), "--workers", workers
    )
    systemd.hears("READY=1")
    systemd.hears("WATCHDOG=1")
    product.wait_ready()
    assert product.get("/")[0] == 200
    with socket.create_connection(("127.0.0.1", http_port), timeout=GENEROUS_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert plain.recv(4096).startswith(b"HTTP/1.1 30")

    said = product.upgrade()
    main = int(systemd.hears(r"MAINPID=\d+").partition("=")[2])
    assert f"pid {main}" in said
    assert main != first
    assert systemd.wait_main() == 0  # the old one has drained
    systemd.forget()
    systemd.hears("WATCHDOG=1")  # by the new one now
    assert product.get("/")[0] == 200

    os.kill(main, signal.SIGTERM)
    systemd.hears("STOPPING=1")
    assert processes.wait_gone([main], timeout_s=GENEROUS_S) == []
    # systemd holds the ports: who comes now waits in the queue for the next start, and is not refused.
    socket.create_connection(("127.0.0.1", product.https_port), timeout=1).close()
