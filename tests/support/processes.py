"""Owns what tests know of processes: who belongs to whom, how much memory they took, how they are ended."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """All descendants of ``pid``."""
    found: list[int] = []
    for child in direct_children_of(pid):
        found += [child, *children_of(child)]
    return found


def direct_children_of(pid: int) -> list[int]:
    """Those that ``pid`` itself has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def command_line(pid: int) -> str:
    """The words of its command, or "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether it runs; a process that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def processes_naming(text: str) -> list[int]:
    """Every process that has ``text`` (a test's own folder) in its command line, this one apart."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if pid != os.getpid() and text in command_line(pid) and is_alive(pid)]


def memory_mib(pid: int, *, peak: bool = False) -> float:
    """Resident memory now, or the most it ever was."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def until(is_so: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Wait until it is so. Raises: TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout_s:g} s")
        time.sleep(0.02)


def wait_gone(pids: list[int], *, timeout_s: float) -> list[int]:
    """Wait for processes to end; returns those that did not."""
    deadline = time.monotonic() + timeout_s
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
