"""Owns a running ``gateway trace`` as a test reads it."""

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.support.product import BIN, Product

_SETTING: Final = re.compile("GATEWAY_|MINIO_|DISABLE_MINIO")
PATIENCE_S: Final = 60.0  # a machine that is busy starts a Python slowly; nothing is decided by it


def bare_environ(product: Product) -> dict[str, str]:
    """That of a shell which knows nothing of the settings that the gateway was started with."""
    return {name: value for name, value in product.environ.items() if not _SETTING.match(name)}


class Tracing:
    """A running ``gateway trace --json``."""

    def __init__(self, product: Product, *words: str) -> None:
        self._process = subprocess.Popen(
            [str(BIN / "gateway"), "trace", "--json", "--data-dir", str(product.data_dir), *words],
            env=bare_environ(product),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._pending = b""
        self.notes = ""
        while "listening" not in self.notes:
            assert self._process.stderr is not None
            line = self._process.stderr.readline().decode()
            assert line, self.notes
            self.notes += line

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def next(self) -> dict[str, Any]:
        """The next story."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
            assert ready, "nothing came"
            piece = os.read(self._process.stdout.fileno(), 65536)
            assert piece, "trace has ended"
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        story: dict[str, Any] = json.loads(line)
        return story

    def wait_for(self, target: str) -> dict[str, Any]:
        """The next story about this target."""
        while (story := self.next())["target"] != target:
            continue
        return story

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal; the exit status."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; the exit status."""
        _, notes = self._process.communicate(timeout=PATIENCE_S)
        self.notes += notes.decode()
        return self._process.returncode


@contextmanager
def tracing(product: Product, *words: str) -> Iterator[Tracing]:
    """A trace for the length of a test."""
    trace = Tracing(product, *words)
    try:
        yield trace
    finally:
        if trace.is_running():
            trace.end(signal.SIGKILL)
