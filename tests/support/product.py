"""Owns the product as a user runs it: `gateway serve` with its core, in a folder and on ports of its own."""

import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner

from tests.support import processes
from tests.support.library_client import LibraryClient, build_library_client

BIN: Final = Path(sys.executable).parent
_START_S: Final = 30.0
_STOP_S: Final = 20.0
# Below the kernel's ephemeral ports, so that no outgoing connection takes a chosen port.
_PORTS: Final = range(20_000, 32_000)


class ProductFailed(Exception):
    """The product did not do what a test needs before it can begin; carries its log."""


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for _ in range(100):
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


class Product:
    """One running product. Made by ``running_product``, which also proves that it leaves nothing behind."""

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str], flags: tuple[str, ...], names_ports: bool = True
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.log_file = folder / "gateway.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.http_port, self.https_port = free_port(), free_port()
        self.base = f"https://localhost:{self.https_port}"
        self.plain_base = f"http://localhost:{self.http_port}"
        self.ca = self.data_dir / "tls" / "ca.crt"
        self._settings = settings
        ports = ("--http", f"127.0.0.1:{self.http_port}", "--https", f"127.0.0.1:{self.https_port}")
        self._flags = (*(ports if names_ports else ()), *flags)
        self.prefix: tuple[str, ...] = ()  # words before the command that starts it
        self._process: subprocess.Popen[bytes] | None = None
        self._successor: int | None = None  # after ``upgrade``: no child of ours

    # -- life

    def start(self, *, wait: bool = True) -> None:
        """Start the gateway and, unless told otherwise, wait until it is ready."""
        log = self.log_file.open("ab")
        command = [
            *self.prefix,
            str(BIN / "gateway"),
            "serve",
            "--data-dir",
            str(self.data_dir),
            *self._flags,
        ]
        with log:
            self._process = subprocess.Popen(
                command,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, *, timeout_s: float = _START_S) -> None:
        """Wait until core and store are usable. Raises: ProductFailed."""
        deadline = time.monotonic() + timeout_s
        last = "nobody listened"
        while time.monotonic() < deadline:
            if not self._successor and self._process is not None and self._process.poll() is not None:
                raise ProductFailed(f"gateway ended with {self._process.returncode}\n{self.log_text}")
            try:
                status, body = self.get("/-/readyz", timeout_s=2)
            except (OSError, ssl.SSLError) as exc:
                last = repr(exc)
            else:
                if status == 200:
                    return
                last = f"{status} {body[:500]!r}"
            time.sleep(0.05)
        raise ProductFailed(f"not ready after {timeout_s} s: {last}\n{self.log_text}")

    def terminate(self) -> None:
        """SIGTERM: it drains and ends by itself."""
        self._running().terminate()

    def stop(self, *, timeout_s: float = _STOP_S) -> int:
        """SIGTERM and wait; the exit status."""
        self.terminate()
        return self.wait_ended(timeout_s=timeout_s)

    def wait_ended(self, *, timeout_s: float = _STOP_S) -> int:
        """Wait for its end; the exit status. Raises: ProductFailed."""
        process = self._running()
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProductFailed(f"did not stop within {timeout_s} s\n{self.log_text}") from None
        self._process = None
        return status

    def kill(self) -> None:
        """kill -9 of the gateway, and of its children as a power cut would."""
        process = self._running()
        family = [process.pid, *processes.children_of(process.pid)]
        for pid in family:
            processes.send(pid, signal.SIGKILL)
        process.wait()
        processes.wait_gone(family, timeout_s=5)
        self._process = None

    def kill_gateway_only(self) -> None:
        """kill -9 of the gateway process alone: its core has to notice by itself."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop in order, start again."""
        self.stop()
        self.start()

    def upgrade(self) -> str:
        """`gateway upgrade`: from now on the new process is the product. What the command said."""
        said = self.run("gateway", "upgrade").stdout
        found = re.search(r"the new process serves \(pid (\d+)\)", said)
        if found is None:
            raise ProductFailed(f"gateway upgrade did not name the new process: {said}")
        self._successor = int(found[1])
        return said

    def upgrade_by_signal(self) -> None:
        """The same by SIGUSR2: from now on the new process is the product. Raises: ProductFailed."""
        pattern = r"upgrade: the new process serves \(pid (\d+)\)"
        before = len(re.findall(pattern, self.log_text))
        processes.send(self.pid, signal.SIGUSR2)
        self.wait_log(pattern, more_than=before, timeout_s=90)
        self._successor = int(re.findall(pattern, self.log_text)[-1])

    def wait_log(self, pattern: str, *, more_than: int = 0, timeout_s: float = _START_S) -> None:
        """Wait until the log has lines that match (more than so many). Raises: ProductFailed."""
        deadline = time.monotonic() + timeout_s
        while len(re.findall(pattern, self.log_text)) <= more_than:
            if time.monotonic() > deadline:
                raise ProductFailed(f"the log does not say {pattern!r}\n{self.log_text}")
            time.sleep(0.02)

    def wait_only_one(self, *, timeout_s: float = 60.0) -> None:
        """Wait until the processes before the last upgrade have drained and ended. Raises: ProductFailed."""
        now = {self.pid, *processes.children_of(self.pid)}
        old = [pid for pid in processes.processes_naming(str(self.data_dir)) if pid not in now]
        if left := processes.wait_gone(old, timeout_s=timeout_s):
            raise ProductFailed(f"did not end after the upgrade: {left}\n{self.log_text}")

    def close(self) -> list[str]:
        """End whatever still runs; what should not have been left behind, one line each."""
        if self._successor is not None:
            processes.send(self._successor, signal.SIGTERM)
            processes.wait_gone([self._successor], timeout_s=_STOP_S)
        if self._process is not None and self._process.poll() is None:
            processes.send(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                pass
        left = processes.wait_gone(processes.processes_naming(str(self.data_dir)), timeout_s=5)
        said = [f"process {pid} was left: {processes.command_line(pid)}" for pid in left]
        for pid in left:
            processes.send(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None
        return said + [f"staging file was left: {path}" for path in self.staging_files()]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProductFailed("the product does not run")
        return self._process

    # -- looking inside

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every command: nothing of the caller's settings, all of the test's."""
        inherited = {k: v for k, v in os.environ.items() if not re.match("GATEWAY_|MINIO_|DISABLE_MINIO", k)}
        return {**inherited, **self._settings, "PYTHONUNBUFFERED": "1"}

    @property
    def pid(self) -> int:
        """The gateway's process."""
        return self._successor or self._running().pid

    def core_pid(self) -> int:
        """The core's process, soon started again if it ended. Raises: ProductFailed when there is none."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for pid in processes.children_of(self.pid):
                if "registry" in processes.command_line(pid) and processes.is_alive(pid):
                    return pid
            time.sleep(0.02)
        raise ProductFailed(f"no core among {processes.children_of(self.pid)}\n{self.log_text}")

    def kill_core(self) -> int:
        """kill -9 of the core; its former process id."""
        pid = self.core_pid()
        processes.send(pid, signal.SIGKILL)
        processes.wait_gone([pid], timeout_s=5)
        return pid

    @property
    def log_text(self) -> str:
        """What it wrote so far, without our own questions whether it is ready."""
        if not self.log_file.exists():
            return ""
        lines = self.log_file.read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if "/-/readyz 503" not in line)

    def rss_mib(self, *, peak: bool = False) -> float:
        """Resident memory of the gateway process."""
        return processes.memory_mib(self.pid, peak=peak)

    def staging_files(self) -> list[Path]:
        """Bytes of uploads that are neither finished nor gone."""
        staging = self.data_dir / "staging"
        return [path for path in staging.rglob("*") if path.is_file() and path.stat().st_size]

    def blob_files(self) -> list[Path]:
        """Every visible blob."""
        return [path for path in (self.data_dir / "blobs").rglob("*") if path.is_file()]

    # -- using it

    def run(
        self, *words: str | Path, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the product's commands on this data folder."""
        command = [str(BIN / words[0]), *map(str, words[1:]), "--data-dir", str(self.data_dir)]
        done = subprocess.run(
            command, env=self.environ, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise ProductFailed(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}{done.stdout}")
        return done

    def registry(self, *words: str, stdin: str = "") -> str:
        """A `registry` command, run in this process: starting a Python for each of hundreds takes minutes."""
        from registry_core.cli import main  # heavy, and not every test needs it

        command = [*words, "--data-dir", str(self.data_dir)]
        umask = os.umask(0o022)  # the command narrows it for its process, which is ours
        try:
            done = CliRunner().invoke(main, command, input=stdin, env=self._settings)
        finally:
            os.umask(umask)
        if done.exit_code:
            raise ProductFailed(f"registry {' '.join(words)}: exit {done.exit_code}\n{done.output}")
        return done.stdout.strip()

    def add_user(self, name: str, *, admin: bool = False, password: str = "correct horse battery") -> str:
        """A new account; its password."""
        options = ("--admin",) if admin else ()
        self.registry("user", "add", name, *options, "--password-stdin", stdin=f"{password}\n")
        return password

    def token(self, user: str, *, scope: str = "push") -> str:
        """A new token."""
        return self.registry("token", "create", user, "--scope", scope)

    def new_user(self, name: str, *, scope: str = "push") -> str:
        """A new account's token."""
        self.add_user(name)
        return self.token(name, scope=scope)

    def library(self, token: str = "") -> LibraryClient:
        """The real library client for this product."""
        return LibraryClient(program=build_library_client(), base=self.base, ca=self.ca, token=token)

    def ssl_context(self) -> ssl.SSLContext:
        """Trusts the product's own CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca))

    def get(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        timeout_s: float = 30,
    ) -> tuple[int, bytes]:
        """One request over TLS; status and body."""
        request = urllib.request.Request(self.base + path, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, context=self.ssl_context(), timeout=timeout_s) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read()

    def get_json(self, path: str, *, token: str = "") -> Any:
        """One library call; the value in its envelope or its error."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        status, body = self.get(path, headers=headers)
        value = json.loads(body)
        return value["data"] if status == 200 else value

    def curl(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """curl as the documentation shows it, trusting the product's CA."""
        command = ["curl", "--silent", "--show-error", "--cacert", str(self.ca), "--max-time", "300"]
        return subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            check=check,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def running_product(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    start: bool = True,
    names_ports: bool = True,
) -> Iterator[Product]:
    """A product for the length of a test; the test fails when it leaves a process or staging file.

    ``names_ports``: the listeners are given as flags; else ``settings`` or a file must name its ports.
    """
    product = Product(folder, settings=settings or {}, flags=flags, names_ports=names_ports)
    left: list[str] = []
    try:
        if start:
            product.start()
        yield product
    finally:
        left = product.close()
    if left:
        raise ProductFailed("\n".join([*left, product.log_text]))
