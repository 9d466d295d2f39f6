"""Owns a real S3 server for tests: SeaweedFS on loopback, with a data folder of its own, ended by its process id."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.settings import S3
from gateway.store.s3_store import S3Store

WEED: Final = Path(sys.prefix) / "bin" / "weed"
ACCESS_KEY: Final = "gatewaykey"
SECRET_KEY: Final = "gatewaysecret"
OLD_ACCESS_KEY: Final = "oldgatewaykey"
OLD_SECRET_KEY: Final = "oldgatewaysecret"
_START_S: Final = 60.0


class Seaweed:
    """One server. ``stop`` and ``start`` keep ports and data: a restart as S3's clients see it."""

    def __init__(
        self,
        folder: Path,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.data = folder / "weed"
        self.data.mkdir(parents=True, exist_ok=True)
        self._tls = (certificate, key)
        self._prefix = prefix
        self.port, *self._ports = free_ports(9)
        self._process: subprocess.Popen[bytes] | None = None
        self.accept_keys((ACCESS_KEY, SECRET_KEY))

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a product that keeps its images here."""
        return {
            "GATEWAY_STORAGE__KIND": "s3",
            "MINIO_SERVER": self.endpoint,
            "MINIO_BUCKET": "images",
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
        }

    def settings(self, **changes: object) -> S3:
        """Settings of a store in this server."""
        values: dict[str, object] = {
            "endpoint": self.endpoint,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "bucket": "images",
        }
        return S3.model_validate(values | changes)

    def store(self, bucket: str, folder: Path, **changes: object) -> S3Store:
        """A store of our own in a bucket, to look into it."""
        return S3Store(self.settings(bucket=bucket, **changes), spool=folder / "spool", buffer_bytes=24 << 20)

    def accept_keys(self, *pairs: tuple[str, str]) -> None:
        """The key pairs that the server takes from its next start on."""
        identities = [
            {
                "name": f"user{number}",
                "credentials": [{"accessKey": access, "secretKey": secret}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
            for number, (access, secret) in enumerate(pairs)
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))

    def start(self) -> None:
        """Start it and wait until S3 answers."""
        master, master_rpc, volume, volume_rpc, filer, filer_rpc, s3_rpc, http_port = self._ports
        certificate, key = self._tls
        s3_ports = [f"-s3.port={self.port}"]
        if certificate:
            s3_ports = [
                f"-s3.port={http_port}",
                f"-s3.port.https={self.port}",
                f"-s3.cert.file={certificate}",
                f"-s3.key.file={key}",
            ]
        command = [
            *self._prefix,
            str(WEED),
            "-logtostderr",
            "-v=0",
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.data}",
            f"-master.port={master}",
            f"-master.port.grpc={master_rpc}",
            "-master.volumeSizeLimitMB=1024",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            f"-volume.port={volume}",
            f"-volume.port.grpc={volume_rpc}",
            "-volume.max=2000",
            "-filer",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_rpc}",
            f"-filer.localSocket={self.folder / 'filer.sock'}",
            "-s3",
            *s3_ports,
            f"-s3.port.grpc={s3_rpc}",
            f"-s3.config={self.folder / 's3.json'}",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "HOME": str(self.folder),
                    "GOMEMLIMIT": "1GiB",
                    # Each bucket takes volumes of its own; 7 at a time, unless told otherwise.
                    "WEED_MASTER_VOLUME_GROWTH_COPY_1": "2",
                },
                start_new_session=True,
            )
        self._wait_ready()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a crash does."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait()

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _wait_ready(self) -> None:
        """Ready is when something can be stored: S3 answers before it knows of a volume."""
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._answers() and self._stores():
                return
            time.sleep(0.1)
        self.stop()
        raise AssertionError((self.folder / "weed.log").read_text()[-3000:])

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _stores(self) -> bool:
        filer = http.client.HTTPConnection("127.0.0.1", self._ports[4], timeout=5)
        try:
            filer.request("PUT", "/probe/ready", body=b"x" * 4096)
            return filer.getresponse().status in {200, 201}
        except (OSError, http.client.HTTPException):
            return False
        finally:
            filer.close()


@contextmanager
def running_seaweed(
    folder: Path,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
    prefix: tuple[str, ...] = (),
) -> Iterator[Seaweed]:
    """A server for as long as the block runs; it takes one pair of ``keys``. ``prefix`` comes before its command."""
    server = Seaweed(folder, certificate=certificate, key=key, prefix=prefix)
    server.accept_keys(keys)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
