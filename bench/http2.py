"""Owns one comparison: the same upload over HTTP/2 and over HTTP/1.1, both over TLS, in one run.

``python -m bench.http2 [ROUNDS] [MIB]``. One lean client speaks both, from blocks made beforehand; curl is asked, too,
where it can. It writes 16 KiB frames as browsers and curl do.
"""

import contextlib
import os
import shutil
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hpack import Encoder

from tests.support import processes
from tests.support.product import Product, running_product

MIB: Final = 1 << 20
FRAME: Final = 16 * 1024
BATCH: Final = 16  # frames for one write: 256 KiB
BOUNDARY: Final = "B"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Failed(Exception):
    """The upload was not taken."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return struct.pack(">HBBBL", size >> 8, size & 0xFF, kind, flags, stream) + payload


def connect(port: int, protocol: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    tls = context.wrap_socket(socket.create_connection(("localhost", port)), server_hostname="localhost")
    assert tls.selected_alpn_protocol() == protocol
    return tls


def form(size: int) -> tuple[bytes, bytes]:
    disposition = 'Content-Disposition: form-data; name="file"; filename="x.sif"'
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


def fields_of(token: str, length: int) -> list[tuple[str, str]]:
    return [
        ("authorization", f"Bearer {token}"),
        ("content-type", f"multipart/form-data; boundary={BOUNDARY}"),
        ("content-length", str(length)),
    ]


def over_http1(port: int, token: str, path: str, size: int) -> None:
    head, tail = form(size)
    block = os.urandom(BATCH * FRAME)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields_of(token, len(head) + size + len(tail)))
    with connect(port, "http/1.1") as tls:
        tls.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode() + head)
        for _ in range(size // len(block)):
            tls.sendall(block)
        tls.sendall(tail)
        status = tls.recv(64).split(b" ")[1]
        if status != b"201":
            raise Failed(status)


class Windows:
    """What the server allows, read from its frames."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls
        self._data = bytearray()
        self.stream = self.connection = 65_535
        self.frames: list[tuple[int, bytes]] = []

    def read(self) -> None:
        self._data += self._tls.recv(65_536)
        while len(self._data) >= 9:
            high, low, kind, _, stream = struct.unpack_from(">HBBBL", self._data)
            size = high << 8 | low
            if len(self._data) < 9 + size:
                return
            payload = bytes(self._data[9 : 9 + size])
            del self._data[: 9 + size]
            if kind == 8:
                more = int.from_bytes(payload)
                self.stream += more if stream else 0
                self.connection += 0 if stream else more
            elif kind in {3, 7}:
                raise Failed(f"frame {kind}: {payload!r}")
            self.frames.append((kind, payload))

    def wait(self, size: int) -> None:
        while min(self.stream, self.connection) < size:
            self.read()
        self.stream -= size
        self.connection -= size


def over_http2(port: int, token: str, path: str, size: int) -> None:
    head, tail = form(size)
    block = frame(0, 0, 1, os.urandom(FRAME)) * BATCH
    fields = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
    fields += fields_of(token, len(head) + size + len(tail))
    with connect(port, "h2") as tls:
        tls.sendall(_PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, Encoder().encode(fields)))
        windows = Windows(tls)
        windows.wait(len(head) + len(tail))
        tls.sendall(frame(0, 0, 1, head))
        for _ in range(size // (BATCH * FRAME)):
            windows.wait(BATCH * FRAME)
            tls.sendall(block)
        tls.sendall(frame(0, 1, 1, tail))
        while not any(kind == 1 for kind, _ in windows.frames):
            windows.read()


def by_curl(version: str, file: Path) -> Callable[[int, str, str, int], None]:
    def upload(port: int, token: str, path: str, size: int) -> None:
        command = [
            "curl", "-sk", version, "-o", "/dev/null", "-w", "%{http_version} %{http_code}",
            "-H", f"Authorization: Bearer {token}", "-F", f"file=@{file}", f"https://localhost:{port}{path}",
        ]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if said != f"{'2' if version == '--http2' else '1.1'} 201":
            raise Failed(said)

    return upload


def measure(
    product: Product, name: str, token: str, size: int, upload: Callable[[int, str, str, int], None]
) -> float:
    """One upload; prints and returns MB/s."""
    pids = [product.pid]
    cpu, started = sum(map(processes.cpu_seconds, pids)), time.monotonic()
    upload(product.https_port, token, f"/upload?collection=bench/test&name={name}-{time.time_ns()}", size)
    seconds, cpu = time.monotonic() - started, sum(map(processes.cpu_seconds, pids)) - cpu
    rate = size / seconds / 1e6
    print(f"{name:12} {rate:7.0f} MB/s  {cpu / size * (1 << 30):5.2f} CPU s/GiB", flush=True)
    for blob in (product.data_dir / "blobs").rglob("*sha256*"):
        blob.unlink()
    return rate


def main(rounds: int, mib: int) -> None:
    size = mib * MIB
    room = Path("/dev/shm") if shutil.disk_usage("/dev/shm").free > 4 * size else None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=room)))
        settings = {"GATEWAY_SERVER__HTTP2": "true", "GATEWAY_STORAGE__DISK__FSYNC": "false"}
        product = stack.enter_context(running_product(folder / "product", settings=settings))
        token = product.new_user("bench")
        file = folder / "image"
        with file.open("wb") as image:
            for _ in range(mib):
                image.write(os.urandom(MIB))
        ways = {
            "http1": over_http1,
            "http2": over_http2,
            "curl-http1": by_curl("--http1.1", file),
            "curl-http2": by_curl("--http2", file),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, upload in ways.items():
                rates[name].append(measure(product, name, token, size, upload))
        for client in ("", "curl-"):
            ratio = statistics.median(
                second / first
                for first, second in zip(rates[f"{client}http1"], rates[f"{client}http2"], strict=True)
            )
            print(f"{client or 'lean '}http2 / http1: {ratio:.2f}")
        print(f"peak RSS {processes.memory_mib(product.pid, peak=True):.0f} MiB")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
