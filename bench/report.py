"""Owns what is shown: medians over the rounds, ratios taken inside each round, the machine, JSON and Markdown."""

import json
import os
import platform
import ssl
import statistics
import subprocess
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import Measured
from bench.rows import Bound, Figure, Row

type Rounds = dict[str, dict[str, list[Measured]]]  # row key → peer → one for each round


def figure(measured: Measured, name: Figure) -> float:
    """One figure of one measurement."""
    if name == "p99_over_p50":
        return measured.p99_ms / measured.p50_ms if measured.p50_ms else 0.0
    return float(getattr(measured, name))


def verdict(row: Row, bound: Bound, rounds: Rounds) -> tuple[float, bool]:
    """The median value that the bound speaks of, and whether it is kept."""
    ours = [figure(m, bound.figure) for m in rounds[row.key][row.ours]]
    if bound.peer:
        theirs = [figure(m, bound.figure) for m in rounds[row.key][bound.peer]]
        ours = [a / b for a, b in zip(ours, theirs, strict=True) if b]
    value = statistics.median(ours) if ours else 0.0
    return value, bound.is_met(value)


def machine(target: Path, *, fsync: bool) -> dict[str, str]:
    """What the numbers depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(target)], capture_output=True, text=True, check=True
    ).stdout.strip()
    nginx = subprocess.run(
        ["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=False
    ).stderr.strip()
    return {
        "processor": f"{model}, {os.cpu_count()} cores shared by server and load generator",
        "kernel": platform.release(),
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "nginx": nginx.removeprefix("nginx version: "),
        "target": f"{kind}, fsync {'on' if fsync else 'off'} for every peer that has it",
    }


def as_json(rows: list[Row], rounds: Rounds, about: dict[str, str]) -> str:
    """Everything measured, for machines."""
    value: dict[str, Any] = {"machine": about, "rows": {}}
    for row in rows:
        value["rows"][row.key] = {
            "title": row.title,
            "rounds": {peer: [asdict(m) for m in all_] for peer, all_ in rounds[row.key].items()},
            "bounds": [
                dict(zip(("must", "is", "met"), (b.words, *verdict(row, b, rounds)), strict=True))
                for b in row.bounds
            ],
        }
    return json.dumps(value, indent=1)


def as_markdown(rows: list[Row], rounds: Rounds, about: dict[str, str]) -> str:
    """The tables, for people."""
    lines = [f"- {name}: {what}" for name, what in about.items()]
    lines += ["", "| work | must | measured | |", "|---|---|---|---|"]
    for row in rows:
        for bound in row.bounds:
            value, met = verdict(row, bound, rounds)
            lines.append(f"| {row.title} | {bound.words} | {value:.3g} | {'met' if met else '**missed**'} |")
    header = (
        "| work | who | MB/s | requests/s | p50 ms | p99 ms | CPU s/GiB | CPU µs/request | peak RSS MiB |"
    )
    lines += ["", header, "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        for peer, measured in rounds[row.key].items():
            lines.append(_peer_line(row, peer, measured))
    return "\n".join(lines) + "\n"


def _peer_line(row: Row, peer: str, measured: list[Measured]) -> str:
    def mid(name: Figure) -> float:
        return statistics.median(figure(m, name) for m in measured)

    bulk = measured[0].gib * (1 << 30) / max(measured[0].requests, 1) > 1 << 20
    single = measured[0].requests <= row.load.connections
    p99 = statistics.median(m.p99_ms for m in measured)
    cells = [
        f"{mid('mb_s'):,.0f}" if bulk else "",
        "" if bulk else f"{mid('req_s'):,.0f}",
        "" if single else f"{mid('p50_ms'):.2f}",
        "" if single else f"{p99:.2f}",
        f"{mid('cpu_s_per_gib'):.2f}" if bulk else "",
        "" if bulk else f"{mid('cpu_us_per_request'):,.0f}",
        f"{mid('peak_rss_mib'):.0f}",
    ]
    return f"| {row.title} | {peer} | {' | '.join(cells)} |"


def new_rounds() -> Rounds:
    """An empty collection of measurements."""
    return defaultdict(lambda: defaultdict(list))
