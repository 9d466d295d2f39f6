"""Owns what a measurement is: one load, one peer; rates, CPU of its processes, peak memory."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.build import build
from tests.support import processes

_CROWD_COMES_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the generator does. ``size`` in bytes of one file; ``requests`` for each connection."""

    kind: str
    connections: int = 1
    requests: int = 1
    size: int = 0
    tls: bool = False
    accept: str = ""
    bytes_per_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A peer that runs. ``folder`` is where its uploads end up, emptied after each load. ``kind`` is how it takes
    them when that is not as a form. ``crowd`` is what else it has to do meanwhile.
    """

    name: str
    plain_port: int
    tls_port: int
    folder: Path
    pids: Callable[[], list[int]]
    main_pid: int
    paths: dict[str, str]
    token: str = ""
    kind: str = ""
    crowd: Load | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load on one peer. CPU is that of all its processes; ``main_cpu_s`` of the front process alone."""

    peer: str
    mb_s: float
    req_s: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    main_cpu_s: float
    gib: float
    requests: int
    peak_rss_mib: float

    @property
    def cpu_s_per_gib(self) -> float:
        """CPU seconds for each GiB moved."""
        return self.cpu_s / self.gib if self.gib else 0.0

    @property
    def cpu_us_per_request(self) -> float:
        """CPU microseconds of the front process for each request."""
        return self.main_cpu_s / self.requests * 1e6 if self.requests else 0.0


class LoadFailed(Exception):
    """Requests failed: a rate over failures means nothing."""


def measure(target: Target, load: Load, path: str) -> Measured:
    """Run one load. Raises: LoadFailed."""
    pids = target.pids()
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    cpu_before = {pid: processes.cpu_seconds(pid) for pid in pids}
    with _crowd(target, path):
        said = _generate(target, load, path)
    pids = [pid for pid in target.pids() if processes.is_alive(pid)]
    spent = {pid: processes.cpu_seconds(pid) - cpu_before.get(pid, 0.0) for pid in pids}
    if said["failed"] or not said["finished"]:
        raise LoadFailed(f"{target.name} {path}: {said}")
    return Measured(
        peer=target.name,
        mb_s=said["mb_s"],
        req_s=said["req_s"],
        p50_ms=said["p50_ms"],
        p99_ms=said["p99_ms"],
        cpu_s=sum(spent.values()),
        main_cpu_s=spent.get(target.main_pid, sum(spent.values())),
        gib=said["bytes"] / (1 << 30),
        requests=int(said["finished"]),
        peak_rss_mib=max(processes.memory_mib(pid, peak=True) for pid in pids),
    )


@contextmanager
def _crowd(target: Target, path: str) -> Iterator[None]:
    if target.crowd is None:
        yield
        return
    process = subprocess.Popen(_command(target, target.crowd, path), stdout=subprocess.DEVNULL)
    try:
        time.sleep(_CROWD_COMES_S)
        yield
        if process.poll() is not None:
            raise LoadFailed(f"{target.name}: the crowd left early")
    finally:
        process.kill()
        process.wait()


def _generate(target: Target, load: Load, path: str) -> dict[str, float]:
    done = subprocess.run(
        _command(target, load, path), capture_output=True, text=True, check=True, timeout=300
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _command(target: Target, load: Load, path: str) -> list[str]:
    command = [
        str(build("load")), target.kind or load.kind, str(target.tls_port if load.tls else target.plain_port), path,
        "-c", str(load.connections), "-n", str(load.requests), "-s", str(load.size), "-r", str(load.bytes_per_s),
    ]  # fmt: skip
    command += ["-tls"] if load.tls else []
    command += ["-token", target.token] if target.token else []
    return command + (["-accept", load.accept] if load.accept else [])


def empty(folder: Path) -> None:
    """Remove every file under ``folder``; the folders stay, their owner may have them open."""
    for path in folder.rglob("*"):
        if path.is_file() or path.is_symlink():
            path.unlink(missing_ok=True)
