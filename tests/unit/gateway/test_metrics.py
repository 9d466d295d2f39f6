"""Owns the numbers: counted once, added up over processes, in the format that Prometheus reads."""

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import FAMILIES, Metrics


class Up:
    """A health."""

    is_up = True


def numbers(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    kind, text = metrics.render()
    assert kind.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def request(metrics: Metrics, *, status: int = 200, seconds: float = 0.02) -> None:
    metrics.count_request(method="GET", route="core", status=status, bytes_in=1, bytes_out=2, seconds=seconds)


def test_requests_are_counted_by_kind_route_and_status(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, Up())
    request(metrics)
    request(metrics, status=503)
    found = numbers(metrics)
    assert (
        found["gateway_requests_total", (("method_class", "read"), ("route", "core"), ("status", "503"))] == 1
    )
    assert found["gateway_sent_bytes_total", (("route", "core"),)] == 4
    assert found["gateway_core_up", ()] == 1


def test_durations_are_cumulated_as_histograms_demand(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, Up())
    for seconds in (0.005, 0.006, 1e9):
        request(metrics, seconds=seconds)
    found = numbers(metrics)
    bucket = {labels[0][1]: value for (name, labels), value in found.items() if name.endswith("_bucket")}
    assert (bucket["0.005"], bucket["0.01"], bucket["600.0"], bucket["+Inf"]) == (1, 2, 2, 3)


def test_every_family_is_shown_before_anything_happened(tmp_path: Path) -> None:
    _, text = Metrics(tmp_path, Up()).render()
    assert all(f"# TYPE {name}" in text.decode() for name in FAMILIES)


def test_processes_that_share_a_folder_are_added_up(tmp_path: Path) -> None:
    one, other = Metrics(tmp_path, Up(), is_shared=True), Metrics(tmp_path, Up(), is_shared=True)
    request(one)
    request(other)
    one.set("gateway_uploads_active", 2)
    other.set("gateway_uploads_active", 3)
    one.save()
    found = numbers(other)
    assert (
        found["gateway_requests_total", (("method_class", "read"), ("route", "core"), ("status", "200"))] == 2
    )
    assert found["gateway_uploads_active", ()] == 5


def test_a_dead_process_keeps_its_counts_and_loses_its_gauges(tmp_path: Path) -> None:
    dead = Metrics(tmp_path, Up(), is_shared=True)
    request(dead)
    dead.set("gateway_uploads_active", 2)
    dead.save()
    (file,) = (tmp_path / "run" / "metrics").iterdir()
    value = json.loads(file.read_bytes())
    value["pid"] = 2**22 + 1  # beyond the largest process id
    file.write_text(json.dumps(value))
    found = numbers(Metrics(tmp_path, Up(), is_shared=True))
    assert (
        found["gateway_requests_total", (("method_class", "read"), ("route", "core"), ("status", "200"))] == 1
    )
    assert found["gateway_uploads_active", ()] == 0


def test_an_earlier_run_is_forgotten_at_the_start(tmp_path: Path) -> None:
    old = Metrics(tmp_path, Up(), is_shared=True)
    request(old)
    old.save()
    fresh = Metrics(tmp_path, Up(), is_shared=True)
    fresh.clear_others()
    assert not any(name == "gateway_requests_total" for name, _ in numbers(fresh))


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, Up(), is_shared=True)
    folder = tmp_path / "run" / "metrics"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text("{")
    assert numbers(metrics)["gateway_core_up", ()] == 1
