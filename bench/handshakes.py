"""Owns one question: do running uploads live through 500 new TLS connections a second, here and at nginx?

``python -m bench.handshakes [--rate N] [--seconds S] [--peers ...]``. For each peer in turn, uploads over TLS alone,
then beside a storm of full handshakes, each with one small GET: first four uploads as fast as they go, then four that
their clients pace.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.build import build
from bench.measure import LoadFailed, Target, empty
from bench.peers import Peers
from tests.support import processes

MIB: Final = 1 << 20
UPLOADS: Final = 4
PACED_BYTES_PER_S: Final = 20 * MIB  # of each: together what a gigabit line brings
LEAD_S: Final = 0.7  # the storm is there before the uploads, and stays a little longer
SMALL: Final = ("/-/healthz", "/v1/thing")  # what each answers by itself: the gateway, nginx
PEERS: Final = ("gateway", "gateway-per-core", "nginx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One peer, one kind of uploads: alone, and beside the storm."""

    peer: str
    uploads: str
    alone_mb_s: float
    beside_mb_s: float
    failed_uploads: int
    storm: dict[str, float]
    storm_cpu_s: float

    @property
    def ratio(self) -> float:
        """What the storm leaves of the uploads' throughput."""
        return self.beside_mb_s / self.alone_mb_s


def _uploads(target: Target, seconds: float, rate: int) -> "subprocess.Popen[str]":
    # Small enough that the last ones do not run on for long after the storm.
    size = min(16 * MIB, rate) if rate else 16 * MIB
    command = [
        str(build("load")), "upload", str(target.tls_port), target.paths["upload"], "-tls",
        "-c", str(UPLOADS), "-n", "1000", "-s", str(size), "-r", str(rate), "-t", str(seconds),
    ]  # fmt: skip
    command += ["-token", target.token] if target.token else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _said(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate(timeout=120)
    said: dict[str, Any] = json.loads(output)
    if not said.get("finished", True):
        raise LoadFailed(f"no upload was taken: {said}")
    return said


def measure(target: Target, *, rate: float, seconds: float, pace: int) -> Round:
    """One peer. Raises: LoadFailed."""
    alone = _said(_uploads(target, seconds, pace))
    empty(target.folder)
    before = _cpu(target)
    command = [str(build("storm")), str(target.tls_port), SMALL[target.name == "nginx"], "-rate", str(rate)]
    storm = subprocess.Popen([*command, "-t", str(seconds + 2 * LEAD_S)], stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(LEAD_S)
        beside = _said(_uploads(target, seconds, pace))
        stormed = _said(storm)
    finally:
        storm.kill()
        storm.wait()
        empty(target.folder)
    return Round(
        peer=target.name,
        uploads="paced" if pace else "free",
        alone_mb_s=alone["mb_s"],
        beside_mb_s=beside["mb_s"],
        failed_uploads=alone["failed"] + beside["failed"],
        storm=stormed,
        storm_cpu_s=_cpu(target) - before,
    )


def _cpu(target: Target) -> float:
    return sum(processes.cpu_seconds(pid) for pid in target.pids())


def as_markdown(rounds: list[Round], rate: float) -> str:
    """The table."""
    lines = [
        f"{UPLOADS} uploads over TLS beside {rate:,.0f} new TLS connections/s (full handshake, one GET each).",
        "",
        "| peer | uploads | alone MB/s | beside MB/s | left | new connections/s | shaken | answered | handshake p50 ms"
        " | p99 ms | GET p99 ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rounds:
        storm = r.storm
        lines.append(
            f"| {r.peer} | {r.uploads} | {r.alone_mb_s:,.0f} | {r.beside_mb_s:,.0f} | {r.ratio:.2f} |"
            f" {storm['begun'] / storm['seconds']:,.0f} | {storm['shaken'] / storm['begun']:.2%} |"
            f" {storm['answered'] / storm['begun']:.2%} | {storm['handshake_p50_ms']:.1f} |"
            f" {storm['handshake_p99_ms']:.1f} | {storm['answer_p99_ms']:.1f} |"
            + (f" {r.failed_uploads} uploads failed" if r.failed_uploads else "")
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run; 1 when a connection or an upload failed."""
    given = _read_arguments()
    rounds: list[Round] = []
    with ExitStack() as stack:
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=given.target)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        sys.stdout.write(
            "".join(f"- {name}: {value}\n" for name, value in report.machine(target, fsync=False).items())
        )
        peers = Peers(stack, folder, target, fsync=False)
        starters: dict[str, Callable[[], Target]] = {
            "gateway": lambda: peers.gateway("gateway")[1],
            "gateway-per-core": lambda: peers.gateway("gateway-per-core", {"GATEWAY_SERVER__WORKERS": "2"})[
                1
            ],
            "nginx": lambda: peers.nginx(target),
        }
        for name in given.peers:
            running = starters[name]()
            for pace in (0, PACED_BYTES_PER_S):
                rounds.append(measure(running, rate=given.rate, seconds=given.seconds, pace=pace))
                sys.stderr.write(f"{name} {rounds[-1].uploads}: {rounds[-1].ratio:.2f}\n")
    sys.stdout.write("\n" + as_markdown(rounds, given.rate))
    whole = all(r.storm["answered"] == r.storm["begun"] and not r.failed_uploads for r in rounds)
    return 0 if whole else 1


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.handshakes", description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="new connections per second")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--target", default="/var/tmp", help="folder whose file system takes the uploads")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
