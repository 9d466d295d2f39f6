"""Owns the starting and ending of every peer: our gateway, the C yardstick, nginx, and the Python stacks."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.build import build
from bench.measure import Target
from bench.nginx import write_conf
from tests.support import processes
from tests.support.product import Product, free_port, running_product
from tests.support.seaweed import Seaweed

_BLOB_NAME: Final = "bench"
_UPLOAD: Final = "/upload?collection=bench/files&name=file&tag=t%"


class Peers:
    """Everything that runs during a benchmark; ended by the ``ExitStack`` that it was given."""

    def __init__(self, stack: ExitStack, folder: Path, target: Path, *, fsync: bool) -> None:
        self._stack = stack
        self._folder = folder
        self._target = target
        self._fsync = fsync
        self._seaweed: Seaweed | None = None
        self.certificate, self.key = folder / "bench.crt", folder / "bench.key"
        _make_certificate(self.certificate, self.key)

    def _room(self, name: str) -> tuple[Path, Path]:
        """A folder for the peer's own files, and one for the uploads it takes."""
        own, uploads = self._folder / name, self._target / name
        own.mkdir(parents=True)
        uploads.mkdir(parents=True)
        return own, uploads

    def _spawn(
        self, name: str, command: list[str], port: int, environ: Mapping[str, str] | None = None
    ) -> Callable[[], list[int]]:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(environ or {})}
        )
        self._stack.callback(_end, process)
        _wait_listening(port, process, name)
        return lambda: [process.pid, *processes.children_of(process.pid)]

    def sink(self, hashing: str = "thread") -> Target:
        """The C yardstick, one process for plain and one for TLS."""
        name = "c-sink" if hashing == "thread" else f"c-sink-{hashing}"
        _, uploads = self._room(name)
        plain, tls = free_port(), free_port()
        common = ["-hash", hashing, *(["-fsync"] if self._fsync else [])]
        program = str(build("sink"))
        first = self._spawn(f"{name}-plain", [program, str(plain), str(uploads), *common], plain)
        secured = [program, str(tls), str(uploads), *common, "-tls", str(self.certificate), str(self.key)]
        second = self._spawn(f"{name}-tls", secured, tls)
        return Target(
            name=name, plain_port=plain, tls_port=tls, folder=uploads, main_pid=-1, paths={"upload": "/upload"},
            pids=lambda: first() + second(),
        )  # fmt: skip

    def nginx(self, files: Path) -> Target:
        """Debian's nginx: body to file, sendfile from ``files``, a 481-byte JSON answer for all else."""
        own, uploads = self._room("nginx")
        plain, tls = free_port(), free_port()
        conf = write_conf(
            own, target=uploads, files=files, certificate=self.certificate, key=self.key, plain=plain, tls=tls
        )
        command = ["/usr/sbin/nginx", "-p", str(own), "-c", str(conf), "-e", str(own / "error.log")]
        pids = self._spawn("nginx", command, plain)
        paths = {"upload": "/upload", "blob": f"/files/{_BLOB_NAME}", "get": "/v1/thing", "page": "/v1/thing"}
        return Target(
            name="nginx", plain_port=plain, tls_port=tls, folder=uploads, main_pid=-1, paths=paths, pids=pids
        )

    def mitmproxy(self, upstream: Target) -> Target:
        """mitmproxy's reverse mode, streaming, before an upstream that stores what comes."""
        own, _ = self._room("mitmproxy")
        port = free_port()
        command = [
            str(Path(sys.executable).with_name("mitmdump")), "--quiet", "--mode", f"reverse:http://127.0.0.1:{upstream.plain_port}",
            "--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", "stream_large_bodies=64k",
            "--set", f"confdir={own}",
        ]  # fmt: skip
        pids = self._spawn("mitmproxy", command, port)
        return replace(upstream, name="mitmproxy", plain_port=port, tls_port=0, pids=pids)

    def python(self, name: str, app: str, *, tls: bool = False, upstream: str = "") -> Target:
        """One of bench/apps.py on uvicorn (with uvloop and httptools)."""
        _, uploads = self._room(name)
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            f"bench.apps:{app}",
            "--port",
            str(port),
            "--no-access-log",
        ]
        command += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
        command += ["--ssl-certfile", str(self.certificate), "--ssl-keyfile", str(self.key)] if tls else []
        environ = {
            "BENCH_TARGET": str(uploads),
            "BENCH_FSYNC": "1" if self._fsync else "0",
            "BENCH_UPSTREAM": upstream,
            "TMPDIR": str(uploads),
        }
        pids = self._spawn(name, command, port, environ)
        return Target(
            name=name, plain_port=port, tls_port=port, folder=uploads, main_pid=-1, pids=pids,
            paths={"upload": "/upload", "get": "/v1/thing"},
        )  # fmt: skip

    def route(self, name: str, upstream: str, *, workers: int = 1) -> Target:
        """The product in front of another backend: files taken out of forms, hashed, the rest passed on."""
        store = self._target / f"{name}-files"
        store.mkdir()
        config = self._folder / f"{name}.toml"
        fsync = "true" if self._fsync else "false"
        config.write_text(_ROUTE.format(upstream=upstream, store=store, fsync=fsync))
        _, target = self.gateway(
            name, {"GATEWAY_CONFIG": str(config), "GATEWAY_SERVER__WORKERS": str(workers)}
        )
        front = target.main_pid if workers == 1 else -1  # of several, the sum counts
        return replace(target, folder=store, main_pid=front, paths={"upload": "/upload"}, token="")

    def seaweedfs(self) -> Target:
        """An S3 server that also takes unsigned PUTs: what a plain client reaches that uploads there directly."""
        if self._seaweed is None:
            self._seaweed = Seaweed(self._target / "seaweedfs")
            config = self._seaweed.folder / "s3.json"
            known = json.loads(config.read_text())
            known["identities"].append({"name": "anonymous", "actions": ["Read", "Write", "List"]})
            config.write_text(json.dumps(known))
            self._seaweed.start()
            self._stack.callback(self._seaweed.stop)
        seaweed = self._seaweed
        _, nothing = self._room("put-direct")
        return Target(
            name="put-direct", plain_port=seaweed.port, tls_port=0, folder=nothing, main_pid=-1, kind="put",
            pids=lambda: [seaweed.pid()], paths={"upload": "/images/direct-%"},
        )  # fmt: skip

    def s3(self, name: str) -> Target:
        """The product with its store in that server."""
        assert self._seaweed is not None
        settings = self._seaweed.environ
        return self.gateway(name, settings)[1]

    def gateway(
        self, name: str = "gateway", settings: Mapping[str, str] | None = None
    ) -> tuple[Product, Target]:
        """The product as `gateway serve` runs it, its disk store on the benchmark's target folder."""
        own, uploads = self._room(name)
        environ = {
            "GATEWAY_STORAGE__DISK__ROOT": str(uploads),
            "GATEWAY_STORAGE__DISK__FSYNC": "true" if self._fsync else "false",
            "GATEWAY_LOG__ACCESS": "false",
            "GATEWAY_TLS__REDIRECT": "false",
            **(settings or {}),
        }
        product = self._stack.enter_context(running_product(own, settings=environ))
        token = "" if "GATEWAY_CORE__URL" in environ else product.new_user("bench")
        target = Target(
            name=name,
            plain_port=product.http_port,
            tls_port=product.https_port,
            folder=uploads,
            pids=lambda: [product.pid, *processes.children_of(product.pid)],
            main_pid=product.pid,
            paths={"upload": _UPLOAD, "get": "/v1/thing", "page": "/v1/thing"},
            token=token,
        )
        return product, target


_ROUTE: Final = """
[[routes]]
path = "/upload"
action = "upload"
upstream = "{upstream}"
pass_to = "/taken"
store = "{store}"
fsync = {fsync}
file_fields = ["name", "path", "size", "sha256"]
"""


def _make_certificate(certificate: Path, key: Path) -> None:
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def _wait_listening(port: int, process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{name} does not listen on {port}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
