"""Owns the comparison of ways into S3: plain clients that send straight to it, and the gateway that sends it on.

`python -m bench.s3_clients [--mib 256] [--rounds 5] [--apart]`. The ways take turns in each round, for the machine is
not the same from one minute to the next. What the server can take decides; the ratio of neighbours
says what the gateway costs.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from minio import Minio

from tests.support.processes import cpu_seconds
from tests.support.product import Product, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from tests.support.sif import write_random

_SDK_PART_BYTES: Final = 16 << 20


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.s3_clients")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target", default="/dev/shm")
    parser.add_argument("--apart", action="store_true", help="the server on one core, all else on the others")
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="gw-", dir=given.target) as folder:
        file = write_random(Path(folder) / "file", given.mib << 20)
        server = Seaweed(Path(folder) / "s3")
        _let_anybody_write(server)
        try:
            if given.apart:
                os.sched_setaffinity(0, cores[:1])
            server.start()
            if given.apart:
                os.sched_setaffinity(0, cores[1:])
            settings = {
                "GATEWAY_STORAGE__KIND": "s3",
                "MINIO_SERVER": server.endpoint,
                "MINIO_BUCKET": "images",
                "MINIO_ROOT_USER": ACCESS_KEY,
                "MINIO_ROOT_PASSWORD": SECRET_KEY,
                "GATEWAY_TLS__REDIRECT": "false",
            }
            with running_product(Path(folder) / "product", settings=settings) as product:
                ways = _ways(server, product, file)
                taken: dict[str, list[float]] = {name: [] for name in ways}
                before = cpu_seconds(product.pid)
                for number in range(given.rounds + 1):
                    for name, way in ways.items():
                        _change(file)
                        began = time.monotonic()
                        way()
                        if number:  # the first round makes connections, volumes, and warms up
                            taken[name].append(given.mib / (time.monotonic() - began))
                cpu = (cpu_seconds(product.pid) - before) / ((given.rounds + 1) * given.mib / 1024)
                _print(taken, cpu, product.rss_mib(peak=True))
        finally:
            server.stop()
    return 0


def _let_anybody_write(server: Seaweed) -> None:
    config = server.folder / "s3.json"
    known = json.loads(config.read_text())
    known["identities"].append({"name": "anonymous", "actions": ["Read", "Write", "List"]})
    config.write_text(json.dumps(known))


def _change(file: Path) -> None:
    """Other bytes each time: equal ones are stored once."""
    with file.open("r+b") as open_file:
        open_file.write(secrets.token_bytes(64))


def _ways(server: Seaweed, product: Product, file: Path) -> dict[str, Callable[[], None]]:
    token = product.new_user("bench")
    sdk = Minio(server.endpoint, ACCESS_KEY, SECRET_KEY, secure=False)
    if not sdk.bucket_exists("images"):
        sdk.make_bucket("images")

    def run(*words: str) -> None:
        subprocess.run(["curl", "-sS", "--fail", "-o", os.devnull, *words], check=True)

    def curl() -> None:
        run("-T", str(file), f"http://{server.endpoint}/images/curl")

    def minio() -> None:
        sdk.fput_object("images", "sdk", str(file), part_size=_SDK_PART_BYTES, num_parallel_uploads=3)

    def gateway() -> None:
        run(
            "-H", f"Authorization: Bearer {token}", "-F", "name=file", "-F", f"file=@{file}",
            f"{product.plain_base}/upload?collection=bench/files",
        )  # fmt: skip

    return {
        "curl -T straight to S3": curl,
        "minio SDK straight to S3": minio,
        "curl -F through the gateway": gateway,
    }


def _print(taken: dict[str, list[float]], cpu_s_per_gib: float, rss_mib: float) -> None:
    medians = {name: statistics.median(speeds) for name, speeds in taken.items()}
    lines = ["| way | median MiB/s | all |", "|---|---|---|"]
    for name, speeds in taken.items():
        lines.append(f"| {name} | {medians[name]:.0f} | {', '.join(f'{speed:.0f}' for speed in speeds)} |")
    *plain, ours = medians.values()
    rounds = list(zip(*taken.values(), strict=True))
    ratios = [each[-1] / max(each[:-1]) for each in rounds]
    lines.append(
        f"\ngateway / fastest plain client: {ours / max(plain):.2f} of the medians,"
        f" {statistics.median(ratios):.2f} in the median round;"
        f" gateway {cpu_s_per_gib:.2f} CPU s/GiB, peak {rss_mib:.0f} MiB"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
