"""Owns `make bench`: starts the peers that the chosen rows need, runs the rounds interleaved, writes the tables."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import report
from bench.measure import LoadFailed, Target, empty, measure
from bench.peers import Peers
from bench.rows import CROWD, GIB, ROWS, SMALL_FILE, Row
from tests.support.sif import write_random

_ROOT: Final = Path(__file__).parents[1]
_RESULTS: Final = _ROOT / "bench" / "results"
_PAGE: Final = _ROOT / "docs" / "bench.md"
_MARK: Final = "<!-- measured: everything below is written by make bench -->"


class Lineup:
    """The peers that run, each started when a row first asks for it."""

    def __init__(self, peers: Peers, folder: Path, *, blob_bytes: int) -> None:
        self._peers = peers
        self._blob = write_random(folder / "bench", blob_bytes)
        self._running: dict[str, Target] = {}

    def get(self, name: str) -> Target:
        """The running peer of that name."""
        if name not in self._running:
            self._running[name] = self._start(name)
        return self._running[name]

    def _start(self, name: str) -> Target:
        peers = self._peers
        starters: dict[str, Callable[[], Target]] = {
            "c-sink": peers.sink,
            "nginx": lambda: peers.nginx(self._blob.parent),
            "starlette-form": lambda: peers.python(name, "form_app"),
            "python-multipart": lambda: peers.python(name, "stream_app"),
            "mitmproxy": lambda: peers.mitmproxy(self.get("nginx")),
            "starlette-httpx": lambda: peers.python(name, "proxy_app", tls=True, upstream=self._upstream()),
            "gateway": lambda: peers.gateway(name)[1],
            "gateway-per-core": lambda: peers.gateway(name, {"GATEWAY_SERVER__WORKERS": "2"})[1],
            "gateway-forward": lambda: peers.gateway(name, {"GATEWAY_CORE__URL": self._upstream()})[1],
            "gateway-crowded": lambda: replace(self.get("gateway"), name=name, crowd=CROWD),
            "gateway-route": lambda: peers.route(name, self._upstream()),
            "gateway-route-per-core": lambda: peers.route(name, self._upstream(), workers=2),
            "put-direct": peers.seaweedfs,
            "gateway-s3": lambda: self._after("put-direct", lambda: peers.s3(name)),
            "gateway-pull": lambda: self._with_blob(name),
            "gateway-maintenance": lambda: self._in_maintenance(name),
        }
        return starters[name]()

    def _after(self, first: str, then: Callable[[], Target]) -> Target:
        self.get(first)
        return then()

    def _in_maintenance(self, name: str) -> Target:
        product, target = self._peers.gateway(name)
        product.run("gateway", "maintenance", "on")
        return target

    def _upstream(self) -> str:
        return f"http://127.0.0.1:{self.get('nginx').plain_port}"

    def _with_blob(self, name: str) -> Target:
        product, target = self._peers.gateway(name)
        bearer = f"Authorization: Bearer {target.token}"
        product.curl(
            "--fail", "-H", bearer, "-F", f"file=@{self._blob}",
            f"{product.base}/upload?collection=bench/files&name=blob&tag=latest",
        )  # fmt: skip
        where = product.curl(
            "-o", "/dev/null", "-w", "%{redirect_url}", f"{product.base}/v1/imagefile/bench/files/blob:latest"
        ).stdout
        path = "/" + where.split("/", 3)[3]
        return Target(
            name=name, plain_port=target.plain_port, tls_port=target.tls_port, folder=target.folder,
            pids=target.pids, main_pid=target.main_pid, paths={**target.paths, "blob": path}, token=target.token,
        )  # fmt: skip


def main() -> int:
    """Run; with --strict 1 when a bound was missed, so that a script can tell."""
    given = _read_arguments()
    rows = [row for row in ROWS if not given.rows or row.key in given.rows]
    rounds = report.new_rounds()
    with ExitStack() as stack:
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=given.target)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        about = report.machine(target, fsync=given.fsync)
        lineup = Lineup(
            Peers(stack, folder, target, fsync=given.fsync),
            target,
            blob_bytes=GIB // 2 if given.short else 2 * GIB,
        )
        for number in range(given.rounds):
            for row in rows:
                _run_row(row, lineup, rounds, short=given.short, number=number)
    _RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    (_RESULTS / f"{stamp}.json").write_text(report.as_json(rows, rounds, about))
    text = report.as_markdown(rows, rounds, about)
    sys.stdout.write(text)
    if given.write_docs:
        kept = _PAGE.read_text().partition(_MARK)[0]
        day = time.strftime("%Y-%m-%d", time.gmtime())
        how = (
            "one short round, files of a quarter of the size"
            if given.short
            else f"{given.rounds} rounds, medians"
        )
        _PAGE.write_text(f"{kept}{_MARK}\n\nMeasured {day}, {how}.\n\n{text}")
    missed = [b for row in rows for b in row.bounds if not report.verdict(row, b, rounds)[1]]
    return 1 if missed and given.strict else 0


def _run_row(row: Row, lineup: Lineup, rounds: report.Rounds, *, short: bool, number: int) -> None:
    load = row.short if short else row.load
    peers = (row.ours, *row.peers)
    first = number % len(peers)  # who begins finds the disk as the row before left it: each in its turn
    for name in (*peers[first:], *peers[:first]):
        target = lineup.get(name)
        try:
            measured = measure(target, load, target.paths[row.path])
        except (LoadFailed, subprocess.SubprocessError) as exc:
            raise SystemExit(f"bench: {row.key}: {exc}") from exc
        finally:
            if row.path == "upload" and load.size > SMALL_FILE:
                # Small ones stay: ext4 without a journal passes over every inode that was freed a moment ago, so
                # that whoever creates files after a thousand were removed pays for that.
                empty(target.folder)
        rounds[row.key][name].append(measured)
        rate = (
            f"{measured.mb_s:,.0f} MB/s"
            if load.size > 1 << 20 or row.path == "blob"
            else f"{measured.req_s:,.0f}/s"
        )
        sys.stderr.write(f"round {number + 1}  {row.key:12} {name:20} {rate:>12}\n")


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one small round, a minute")
    parser.add_argument("--rows", nargs="*", help=", ".join(row.key for row in ROWS))
    parser.add_argument("--target", default="/var/tmp", help="folder whose file system takes the uploads")
    parser.add_argument("--fsync", action="store_true", help="every peer makes its files durable")
    parser.add_argument("--strict", action="store_true", help="fail when a bound is missed")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/bench.md")
    given = parser.parse_args()
    given.rounds = 1 if given.short else given.rounds
    return given


if __name__ == "__main__":
    raise SystemExit(main())
