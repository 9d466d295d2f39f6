"""Owns the counters: cheap to count, merged over all worker processes, rendered for Prometheus on demand."""

import json
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from gateway.errors import StoreError
from gateway.log import FinishedExchange

if TYPE_CHECKING:
    from prometheus_client.core import Metric

type Kind = Literal["counter", "gauge", "histogram"]
type Labels = tuple[str, ...]

# Seconds. A page is answered in milliseconds, an upload takes minutes.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
SHARE_EVERY_S: Final = 0.1  # how old the numbers of other processes are at most
_METHODS: Final = {"GET": "read", "HEAD": "read", "OPTIONS": "read"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its kind, help, label names; and how gauges of several workers become one."""

    kind: Kind
    help: str
    labels: Labels = ()
    merge: Literal["sum", "max", "min"] = "sum"


FAMILIES: Final[dict[str, Family]] = {
    "gateway_requests": Family(
        kind="counter", help="Requests answered.", labels=("method_class", "route", "status")
    ),
    "gateway_request_seconds": Family(
        kind="histogram", help="Seconds from a request's head to the end of its answer.", labels=("route",)
    ),
    "gateway_received_bytes": Family(kind="counter", help="Bytes of request bodies.", labels=("route",)),
    "gateway_sent_bytes": Family(kind="counter", help="Bytes of answers.", labels=("route",)),
    "gateway_uploads_active": Family(kind="gauge", help="Uploads in progress."),
    "gateway_uploads": Family(kind="counter", help="Uploads that ended.", labels=("outcome",)),
    "gateway_uploaded_bytes": Family(kind="counter", help="Bytes of upload requests that were taken."),
    "gateway_connections_active": Family(kind="gauge", help="Open client connections."),
    "gateway_store_errors": Family(kind="counter", help="Failures of the image store.", labels=("code",)),
    "gateway_outbox_pending": Family(kind="gauge", help="Commits that wait for the core.", merge="max"),
    "gateway_core_up": Family(kind="gauge", help="1 while the core answers.", merge="min"),
    "gateway_upstream_circuit_state": Family(
        kind="gauge",
        help="0 while requests go to the upstream, 1 while one tries it, 2 while it is left alone.",
        labels=("upstream",),
        merge="max",
    ),
    "gateway_maintenance": Family(kind="gauge", help="1 while maintenance is on.", merge="max"),
    "gateway_certificate_expiry_seconds": Family(
        kind="gauge", help="Epoch seconds at which the certificate expires.", labels=("name",), merge="min"
    ),
}


_UPLOAD_ROUTES: Final = frozenset(("upload", "transfer", "legacypush", "resumable"))


class Health(Protocol):
    """The part of ``CoreHealth`` that is needed here."""

    @property
    def is_up(self) -> bool:
        """Whether the core answers."""
        ...


class Metrics:
    """The numbers of one process. With ``folder`` they are also those of all processes that share it."""

    def __init__(self, data_dir: Path, health: Health, *, is_shared: bool = False) -> None:
        """``is_shared``: there are other worker processes, whose numbers are added."""
        self._health = health
        folder = data_dir / "run" / "metrics" if is_shared else None
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in FAMILIES}
        self._buckets: dict[Labels, list[int]] = {}
        self._folder = folder
        self._saved = ""
        # A restarted worker is another file: what the dead one counted stays counted.
        self._file = None if folder is None else folder / f"{os.getpid()}-{time.time_ns()}.json"

    def add(self, name: str, amount: float = 1.0, labels: Labels = ()) -> None:
        """Count, or move a gauge."""
        family = self._values[name]
        family[labels] = family.get(labels, 0.0) + amount

    def set(self, name: str, value: float, labels: Labels = ()) -> None:
        """Set a gauge."""
        self._values[name][labels] = value

    def replace(self, name: str, values: Mapping[Labels, float]) -> None:
        """Set a gauge for all its labels: others are no more."""
        self._values[name] = dict(values)

    def count(self, exchange: FinishedExchange) -> None:
        """Count one exchange that is over."""
        if isinstance(exchange.error, StoreError):
            self.add("gateway_store_errors", 1.0, (exchange.error.code,))
        if exchange.route in _UPLOAD_ROUTES:
            self._count_upload(exchange)
        self.count_request(
            method=exchange.head.method if exchange.has_head else "-",
            route=exchange.route or "none",
            status=exchange.status or (exchange.error.status if exchange.error is not None else 0),
            bytes_in=exchange.body.received,
            bytes_out=exchange.sent_bytes,
            seconds=exchange.duration_s,
        )

    def _count_upload(self, exchange: FinishedExchange) -> None:
        is_taken = exchange.error is None and 200 <= exchange.status < 400  # noqa: PLR2004 - 303 leads browsers on
        self.add("gateway_uploads", 1.0, ("taken" if is_taken else "refused",))
        if is_taken:
            self.add("gateway_uploaded_bytes", float(exchange.body.received))

    def count_request(
        self, *, method: str, route: str, status: int, bytes_in: int, bytes_out: int, seconds: float
    ) -> None:
        """Count one finished request. ``route`` is a fixed word, never a path: paths are without number."""
        self.add("gateway_requests", 1.0, (_METHODS.get(method, "write"), route, str(status)))
        if bytes_in:
            self.add("gateway_received_bytes", bytes_in, (route,))
        self.add("gateway_sent_bytes", bytes_out, (route,))
        self.add("gateway_request_seconds", seconds, (route,))
        buckets = self._buckets.get((route,))
        if buckets is None:
            buckets = self._buckets[(route,)] = [0] * (len(BUCKETS) + 1)
        buckets[bisect_left(BUCKETS, seconds)] += 1

    def save(self) -> None:
        """Let the other processes see the numbers. Does nothing without a folder, or when nothing has changed."""
        if self._file is None or self._folder is None:
            return
        text = json.dumps(self._snapshot())
        if text == self._saved:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._file)
        self._saved = text

    def clear_others(self) -> None:
        """At the start of the main process: forget what an earlier run counted."""
        if self._folder is not None:
            for path in self._folder.glob("*"):  # also what was half written
                path.unlink(missing_ok=True)

    def render(self) -> tuple[str, bytes]:
        """Content type and text of the page for Prometheus. Blocks for a moment."""
        from prometheus_client import (  # noqa: PLC0415 - 5 MiB that nobody may need
            CONTENT_TYPE_LATEST,
            CollectorRegistry,
            generate_latest,
        )

        if self._folder is not None:
            # Whatever was answered before this question counts, whoever answered it.
            time.sleep(2 * SHARE_EVERY_S)
        self.set("gateway_core_up", float(self._health.is_up))
        registry = CollectorRegistry()
        registry.register(_Rendered(self._all()))
        return CONTENT_TYPE_LATEST, generate_latest(registry)

    def _all(self) -> list[dict[str, Any]]:
        snapshots = [self._snapshot()]
        if self._folder is not None:
            snapshots += list(_others(self._folder, self._file))
        return snapshots

    def _snapshot(self) -> dict[str, Any]:
        # Called from a thread while the loop counts on: copy() is one step, iterating is not.
        values = {name: family.copy() for name, family in self._values.items()}
        return {
            "pid": os.getpid(),
            "alive": True,
            "values": {name: [[list(k), v] for k, v in family.items()] for name, family in values.items()},
            "buckets": [[list(labels), counts[:]] for labels, counts in self._buckets.copy().items()],
        }


def _others(folder: Path, own: Path | None) -> Iterator[dict[str, Any]]:
    for path in folder.glob("*.json"):
        if path == own:
            continue
        try:
            snapshot = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        snapshot["alive"] = Path(f"/proc/{snapshot['pid']}").exists()
        yield snapshot


def merge_values(snapshots: Iterable[dict[str, Any]]) -> dict[str, dict[Labels, float]]:
    """One number for each metric and labels. The gauges of dead processes do not count, their counters do."""
    merged: dict[str, dict[Labels, float]] = {name: {} for name in FAMILIES}
    for snapshot in snapshots:
        for name, entries in snapshot["values"].items():
            family = FAMILIES.get(name)
            if family is None or (family.kind == "gauge" and not snapshot["alive"]):
                continue
            for labels, value in entries:
                _merge(merged[name], tuple(labels), value, family.merge)
    return merged


def _merge(into: dict[Labels, float], labels: Labels, value: float, how: str) -> None:
    if labels not in into:
        into[labels] = value
    elif how == "sum":
        into[labels] += value
    else:
        into[labels] = (max if how == "max" else min)(into[labels], value)


def merge_buckets(snapshots: Iterable[dict[str, Any]]) -> dict[Labels, list[int]]:
    """The histogram counts of all processes."""
    merged: dict[Labels, list[int]] = {}
    for snapshot in snapshots:
        for labels, counts in snapshot["buckets"]:
            known = merged.setdefault(tuple(labels), [0] * len(counts))
            merged[tuple(labels)] = [a + b for a, b in zip(known, counts, strict=True)]
    return merged


class _Rendered:
    """What ``prometheus_client`` asks for its text."""

    def __init__(self, snapshots: list[dict[str, Any]]) -> None:
        self._values = merge_values(snapshots)
        self._buckets = merge_buckets(snapshots)

    def collect(self) -> "Iterator[Metric]":
        """Every family, also those that are still zero."""
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for name, family in FAMILIES.items():
            values = self._values[name] or (
                {(): 0.0} if not family.labels and family.kind != "histogram" else {}
            )
            if family.kind == "histogram":
                histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
                for labels, seconds in values.items():
                    histogram.add_metric(labels, _cumulated(self._buckets.get(labels, [])), sum_value=seconds)
                yield histogram
                continue
            make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = make(name, family.help, labels=family.labels)
            for labels, value in values.items():
                metric.add_metric(labels, value)
            yield metric


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
