"""Owns what is measured and what must come out: one row for each line of the design's "Speed and memory" table."""

from dataclasses import dataclass
from typing import Final, Literal

from bench.measure import Load

GIB: Final = 1 << 30
MIB: Final = 1 << 20
SMALL_FILE: Final = 10 * 1024

type Figure = Literal[
    "mb_s", "req_s", "p50_ms", "p99_over_p50", "cpu_s_per_gib", "cpu_us_per_request", "peak_rss_mib"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a row must show: a figure of ours, or (with ``peer``) its ratio to that peer's, at least or at most."""

    figure: Figure
    at_least: float | None = None
    at_most: float | None = None
    peer: str = ""

    @property
    def words(self) -> str:
        """The bound as the table shows it."""
        sign, value = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{self.figure} {sign} {value:g}{f' × {self.peer}' if self.peer else ''}"

    def is_met(self, value: float) -> bool:
        """Whether ``value`` keeps it."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement: a load on our ``ours`` and on its ``peers``, on the path that each has for ``path``."""

    key: str
    title: str
    path: str
    load: Load
    short: Load
    ours: str
    peers: tuple[str, ...]
    bounds: tuple[Bound, ...]


_RSS: Final = Bound(figure="peak_rss_mib", at_most=120)
_UPLOAD_PEERS: Final = ("c-sink", "nginx")
_PYTHON_PEERS: Final = ("starlette-form", "python-multipart")


def _upload(
    key: str,
    title: str,
    *,
    connections: int,
    size: int,
    tls: bool,
    peers: tuple[str, ...],
    ours: str = "gateway",
) -> Row:
    bounds: tuple[Bound, ...] = (
        Bound(figure="mb_s", at_least=0.8, peer="c-sink"),
        Bound(figure="cpu_s_per_gib", at_most=2.6 if tls else 2.0),
        _RSS,
    )
    if "python-multipart" in peers:
        bounds = (*bounds, Bound(figure="mb_s", at_least=1.5, peer="python-multipart"))
    return Row(
        key=key, title=title, path="upload", ours=ours, peers=peers, bounds=bounds,
        load=Load(kind="upload", connections=connections, size=size, tls=tls),
        short=Load(kind="upload", connections=connections, size=size // 4, tls=tls),
    )  # fmt: skip


def _pull(key: str, title: str, *, tls: bool) -> Row:
    load = Load(kind="get", tls=tls)
    return Row(
        key=key, title=title, path="blob", ours="gateway-pull", peers=("nginx",), load=load, short=load,
        bounds=(
            Bound(figure="mb_s", at_least=0.8 if tls else 0.9, peer="nginx"),
            Bound(figure="cpu_s_per_gib", at_most=1.3, peer="nginx"),
            _RSS,
        ),
    )  # fmt: skip


def _small(key: str, title: str, *, ours: str) -> Row:
    return Row(
        key=key, title=title, path="upload", ours=ours, peers=("c-sink", "nginx", "starlette-form"),
        load=Load(kind="upload", connections=16, requests=125, size=SMALL_FILE),
        short=Load(kind="upload", connections=16, requests=40, size=SMALL_FILE),
        bounds=(
            Bound(figure="req_s", at_least=1.5, peer="starlette-form"),
            # a quarter of the upload module, which took 1.27 × of what body-in-file does
            Bound(figure="req_s", at_least=0.32, peer="nginx"),
            Bound(figure="p99_over_p50", at_most=5),
        ),
    )  # fmt: skip


CROWD: Final = Load(kind="upload", connections=200, requests=100, size=8 * MIB, bytes_per_s=50 * 1024)

ROWS: Final = (
    _upload(
        "upload", "one 2 GiB upload, SHA-256, plain", connections=1, size=2 * GIB, tls=False,
        peers=(*_UPLOAD_PEERS, *_PYTHON_PEERS, "mitmproxy"),
    ),
    _upload("upload-tls", "one 2 GiB upload, SHA-256, TLS", connections=1, size=2 * GIB, tls=True, peers=_UPLOAD_PEERS),
    # The sink has a thread for each connection; the gateway has a process for each core (design: "the shape holds").
    _upload(
        "eight", "8 × 256 MiB at once, a process per core, plain", connections=8, size=256 * MIB, tls=False,
        peers=_UPLOAD_PEERS, ours="gateway-per-core",
    ),
    _upload(
        "eight-tls", "8 × 256 MiB at once, a process per core, TLS", connections=8, size=256 * MIB, tls=True,
        peers=_UPLOAD_PEERS, ours="gateway-per-core",
    ),
    _small("small", "10 KiB files on an upload route, 16 keep-alive connections", ours="gateway-route"),
    _small(
        "small-per-core", "10 KiB files on an upload route, 16 connections, a process per core",
        ours="gateway-route-per-core",
    ),
    Row(
        key="small-images", title="10 KiB images into the registry, 16 keep-alive connections", path="upload",
        ours="gateway", peers=("starlette-form",), bounds=(),
        load=Load(kind="upload", connections=16, requests=30, size=SMALL_FILE),
        short=Load(kind="upload", connections=16, requests=10, size=SMALL_FILE),
    ),
    Row(
        key="route", title="one 2 GiB upload on an upload route, SHA-256, plain", path="upload",
        ours="gateway-route", peers=("c-sink",),
        bounds=(Bound(figure="mb_s", at_least=0.8, peer="c-sink"), _RSS),
        load=Load(kind="upload", size=2 * GIB), short=Load(kind="upload", size=GIB // 2),
    ),
    Row(
        key="crowd", title="64 MiB uploads while 200 others come at 50 KiB/s, beside the same alone", path="upload",
        ours="gateway-crowded", peers=("gateway",),
        bounds=(
            Bound(figure="p50_ms", at_most=1.2, peer="gateway"),
            Bound(figure="peak_rss_mib", at_most=400),
        ),
        load=Load(kind="upload", requests=20, size=64 * MIB), short=Load(kind="upload", requests=6, size=64 * MIB),
    ),
    Row(
        key="s3", title="one 1 GiB upload into S3 (SeaweedFS), SHA-256", path="upload", ours="gateway-s3",
        peers=("put-direct",), bounds=(Bound(figure="mb_s", at_least=0.9, peer="put-direct"), _RSS),
        load=Load(kind="upload", size=GIB), short=Load(kind="upload", size=GIB // 4),
    ),
    _pull("pull", "pull of a 2 GiB blob, plain", tls=False),
    _pull("pull-tls", "pull of a 2 GiB blob, TLS", tls=True),
    Row(
        key="forward", title="forwarded small GET, TLS, 32 keep-alive connections", path="get",
        ours="gateway-forward", peers=("nginx", "starlette-httpx"),
        load=Load(kind="get", connections=32, requests=200, tls=True),
        short=Load(kind="get", connections=32, requests=40, tls=True),
        bounds=(
            Bound(figure="cpu_us_per_request", at_most=200),
            Bound(figure="req_s", at_least=15, peer="starlette-httpx"),
        ),
    ),
    Row(
        key="connect", title="new TLS connection + forwarded GET, 16 at once", path="get",
        ours="gateway-forward", peers=("nginx",),
        load=Load(kind="connect", connections=16, requests=150, tls=True),
        short=Load(kind="connect", connections=16, requests=50, tls=True),
        bounds=(Bound(figure="req_s", at_least=800),),
    ),
    Row(
        key="maintenance", title="maintenance answer, TLS, one keep-alive connection", path="page",
        ours="gateway-maintenance", peers=("nginx",),
        load=Load(kind="get", requests=500, tls=True, accept="text/html"),
        short=Load(kind="get", requests=200, tls=True, accept="text/html"),
        bounds=(Bound(figure="p50_ms", at_most=5),),
    ),
)  # fmt: skip
