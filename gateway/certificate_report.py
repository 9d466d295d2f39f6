"""Owns that the core's pages know the certificate: the gateway tells it in a small file, and keeps that fresh."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.contract_certificate import CERTIFICATE_TOLD_EVERY_S, CertificateReport

LOOK_EVERY_S: Final = 5.0


class CertificateReporter:
    """Tells at once what changed, and everything again now and then, so that its silence means something.

    Every worker has one. They tell the same, and whoever is the last to write is right.
    """

    def __init__(
        self, path: Path, read: Callable[[], CertificateReport], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._read = read
        self._clock = clock
        self._told: CertificateReport | None = None

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Tell, if there is something to tell. Raises: OSError."""
        report, told = replace(self._read(), at=self._clock()), self._told
        is_new = told is None or replace(told, at=report.at) != report
        if not is_new and told is not None and 0 <= report.at - told.at < CERTIFICATE_TOLD_EVERY_S:
            return
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fresh.write_text(report.to_json())
        fresh.replace(self._path)
        self._told = report
