"""Owns the comparison of ways into S3: plain clients that send straight to it, and the gateway that sends it on.

`python -m bench.s3_clients [--mib 512] [--rounds 5] [--apart]`. The ways take turns in each round, for the machine is
not the same from one minute to the next. What the server can take decides; the ratio of neighbours
says what the gateway costs. CPU seconds are of the S3 server, the gateway, and the client, for each GiB.

rclone takes part where it is installed.
"""

import argparse
import json
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
    parser.add_argument("--mib", type=int, default=512)
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
            settings = server.environ | {"GATEWAY_TLS__REDIRECT": "false"}
            with running_product(Path(folder) / "product", settings=settings) as product:
                ways = _ways(server, product, file)
                taken: dict[str, list[Taken]] = {name: [] for name in ways}
                for number in range(given.rounds + 1):
                    for name, way in ways.items():
                        _change(file)
                        took = _take(way, (server.pid(), product.pid), gib=given.mib / 1024)
                        if number:  # the first round makes connections, volumes, and warms up
                            taken[name].append(took)
                _print(taken, given.mib, product.rss_mib(peak=True))
        finally:
            server.stop()
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One file on one way: seconds, and CPU seconds a GiB of server, gateway and client."""

    seconds: float
    cpu: tuple[float, float, float]


def _take(way: Callable[[], None], pids: tuple[int, int], *, gib: float) -> Taken:
    def spent() -> tuple[float, ...]:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        client = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return (*(cpu_seconds(pid) for pid in pids), client)

    before = spent()
    began = time.monotonic()
    way()
    seconds = time.monotonic() - began
    server, gateway, client = ((now - then) / gib for now, then in zip(spent(), before, strict=True))
    return Taken(seconds=seconds, cpu=(server, gateway, client))


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

    def rclone() -> None:
        subprocess.run(
            ["rclone", "copyto", "-q", str(file), "seaweed:images/rclone"], check=True, env=rclone_env
        )

    rclone_env = {  # nothing of ours: it stumbles over AWS_CA_BUNDLE
        "PATH": os.environ["PATH"],
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_SEAWEED_TYPE": "s3",
        "RCLONE_CONFIG_SEAWEED_PROVIDER": "Other",
        "RCLONE_CONFIG_SEAWEED_ENDPOINT": f"http://{server.endpoint}",
        "RCLONE_CONFIG_SEAWEED_ACCESS_KEY_ID": ACCESS_KEY,
        "RCLONE_CONFIG_SEAWEED_SECRET_ACCESS_KEY": SECRET_KEY,
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
        "RCLONE_S3_CHUNK_SIZE": "16M",
    }
    plain = {"curl -T straight to S3": curl, "minio SDK straight to S3": minio}
    if shutil.which("rclone"):
        plain["rclone straight to S3"] = rclone
    return {**plain, "curl -F through the gateway": gateway}


def _print(taken: dict[str, list[Taken]], mib: int, rss_mib: float) -> None:
    speeds = {name: [mib / took.seconds for took in many] for name, many in taken.items()}
    medians = {name: statistics.median(many) for name, many in speeds.items()}
    lines = ["| way | median MiB/s | all | CPU s/GiB: server, gateway, client |", "|---|---|---|---|"]
    for name, many in taken.items():
        cpu = (statistics.median(part) for part in zip(*(took.cpu for took in many), strict=True))
        lines.append(
            f"| {name} | {medians[name]:.0f} | {', '.join(f'{speed:.0f}' for speed in speeds[name])}"
            f" | {', '.join(f'{part:.1f}' for part in cpu)} |"
        )
    *plain, ours = medians.values()
    ratios = [each[-1] / max(each[:-1]) for each in zip(*speeds.values(), strict=True)]
    lines.append(
        f"\ngateway / fastest plain client: {ours / max(plain):.2f} of the medians,"
        f" {statistics.median(ratios):.2f} in the median round; gateway's peak {rss_mib:.0f} MiB"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
