"""Owns `python -m bench.memory`: the peak memory of a gateway that took a small file and of one that took a huge one.

Each upload meets a gateway of its own, plain HTTP, as an image and on an upload route. Memory does not depend on how
busy the machine is, so that this may run beside other work.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.measure import Load, Target, empty, measure
from bench.peers import Peers
from tests.support import processes

_MIB: Final = 1 << 20
SMALL_BYTES: Final = 100 * _MIB
LARGE_BYTES: Final = 8192 * _MIB
MOST_APART: Final = 0.10


def main() -> int:
    """Print both peaks and their ratio for each way; 1 when they are further apart than 10 %."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument(
        "--target", default="/var/tmp", help="where the files go; not a tmpfs, which is memory"
    )
    parser.add_argument("--large-mib", type=int, default=LARGE_BYTES // _MIB, help="size of the large file")
    given = parser.parse_args()
    missed = False
    for way, start in (("image", _image), ("route", _route)):
        sizes = (SMALL_BYTES, given.large_mib * _MIB)
        small, large = (_peak_mib(start, Path(given.target), size) for size in sizes)
        ratio = large / small
        missed |= abs(ratio - 1) > MOST_APART
        sys.stdout.write(
            f"{way}: VmHWM {small:.1f} MiB after {SMALL_BYTES // _MIB} MiB,"
            f" {large:.1f} MiB after {given.large_mib} MiB: ratio {ratio:.3f}\n"
        )
        sys.stdout.flush()
    return int(missed)


def _peak_mib(start: Callable[[Peers, Path], Target], parent: Path, size: int) -> float:
    with ExitStack() as stack:
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        gateway = start(Peers(stack, folder, target, fsync=False), folder)
        try:
            measure(gateway, Load(kind="upload", size=size), gateway.paths["upload"])
            return processes.memory_mib(gateway.main_pid, peak=True)
        finally:
            empty(gateway.folder)


def _image(peers: Peers, _folder: Path) -> Target:
    return peers.gateway()[1]


def _route(peers: Peers, folder: Path) -> Target:
    backend = peers.nginx(folder)
    return peers.route("gateway-route", f"http://127.0.0.1:{backend.plain_port}")


if __name__ == "__main__":
    sys.exit(main())
