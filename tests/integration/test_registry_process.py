"""Owns how the core behaves as a process: its socket, its end, and the change from one core to the next."""

import http.client
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from gateway.contract import HEALTH_PATH


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("core", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def start(data_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "registry_core", "serve", "--data-dir", str(data_dir)])


def health(path: Path) -> int:
    """The status of one probe; 0 when nobody answers."""
    connection = _Unix(path)
    try:
        connection.request("GET", HEALTH_PATH)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def inode_after(path: Path, old: int, process: subprocess.Popen[bytes]) -> int:
    """The socket's file, once it is another than ``old``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.stat().st_ino != old:
            return path.stat().st_ino
        time.sleep(0.02)
    raise AssertionError("the core does not listen")


def test_a_new_core_takes_over_the_socket_and_the_old_one_leaves_it(short_path: Path) -> None:
    path = short_path / "run" / "core.sock"
    first = start(short_path)
    second = None
    try:
        inode = inode_after(path, 0, first)
        assert health(path) == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        second = start(short_path)
        inode = inode_after(path, inode, second)
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=30) == 0
        assert path.stat().st_ino == inode
        assert health(path) == 200
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=30) == 0
    finally:
        for process in (first, second):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
