"""Owns what ``gateway check`` finds, and that each fault comes with a remedy."""

import os
import time
from pathlib import Path

import pytest

from gateway import check, check_store
from gateway.check import inspect, render
from gateway.findings import Finding, Level
from gateway.settings import Settings
from gateway.settings_source import load


def made(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


def of(findings: list[Finding]) -> tuple[Level, str, str]:
    assert len(findings) == 1
    return findings[0].level, findings[0].what, findings[0].remedy


def test_everything_is_looked_at_and_every_fault_has_a_remedy(tmp_path: Path) -> None:
    findings = inspect(load(environ={}, flags={"server.data_dir": tmp_path}))
    subjects = {finding.subject for finding in findings}
    assert subjects >= {
        "settings",
        "clock",
        "data folder",
        "public URL",
        "certificate",
        "core",
        "maintenance page",
    }
    assert all(bool(finding.remedy) is (finding.level is not Level.ok) for finding in findings)
    table = render(findings)
    assert all(subject in table for subject in subjects)


def test_a_folder_of_somebody_else_fails(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file where a folder should be")
    level, _, remedy = of(list(check.inspect_data_folder(made(server={"data_dir": blocked}))))
    assert level is Level.fail
    assert "chown" in remedy


def test_a_folder_open_to_all_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    level, what, remedy = of(list(check.inspect_data_folder(made(server={"data_dir": tmp_path}))))
    assert (level, "open to every user" in what, "chmod" in remedy) == (Level.warn, True, True)
    tmp_path.chmod(0o750)
    assert of(list(check.inspect_data_folder(made(server={"data_dir": tmp_path}))))[0] is Level.ok


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("ftp://x", Level.fail),
        ("registry.example.org", Level.fail),
        ("https://registry.example.org/registry", Level.fail),
        ("http://registry.example.org", Level.warn),
        ("https://localhost:8443", Level.warn),
        ("https://name.invalid", Level.warn),
        ("https://127.0.0.1", Level.ok),
    ],
)
def test_public_urls_are_judged(url: str, level: Level) -> None:
    assert of(list(check.inspect_public_url(made(server={"public_url": url}))))[0] is level


def test_a_clock_behind_its_own_files_is_a_warning(tmp_path: Path) -> None:
    ahead = time.time() + 3600
    os.utime(tmp_path, (ahead, ahead))
    assert of(list(check.inspect_clock(made(server={"data_dir": tmp_path}))))[0] is Level.warn


def test_direct_downloads_without_an_address_fail() -> None:
    settings = made(storage={"kind": "s3", "s3": {"direct": True}})
    assert of(list(check_store.inspect_direct_downloads(settings)))[0] is Level.fail
    assert list(check_store.inspect_direct_downloads(made())) == []


def test_a_page_that_needs_another_host_is_a_warning(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for text, level in (
        ('<link href="https://cdn.example.org/x.css">', Level.warn),
        ("<style>@import 'x'</style>", Level.warn),
        ("<style>body{background:url(//x/y.png)}</style>", Level.warn),
        ("<p>Down.", Level.ok),
    ):
        page.write_text(text)
        found = list(
            check.inspect_maintenance(made(maintenance={"page": page}, server={"data_dir": tmp_path}))
        )
        assert of(found)[0] is level, text


def test_a_page_that_is_missing_fails(tmp_path: Path) -> None:
    settings = made(maintenance={"page": tmp_path / "none.html"})
    assert of(list(check.inspect_maintenance(settings)))[0] is Level.fail


def test_a_forgotten_switch_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "maintenance.flag").touch()
    found = list(check.inspect_maintenance(made(server={"data_dir": tmp_path})))
    assert [finding.level for finding in found] == [Level.ok, Level.warn]


def test_a_certificate_that_is_no_certificate_fails(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("hello")
    (tmp_path / "k.pem").write_text("hello")
    settings = made(tls={"mode": "files", "certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"})
    assert of(list(check.inspect_certificate_of(settings)))[0] is Level.fail


def test_a_core_of_our_own_that_does_not_run_is_no_fault(tmp_path: Path) -> None:
    assert of(list(check.inspect_core(made(server={"data_dir": tmp_path}))))[0] is Level.ok


def test_a_core_elsewhere_that_does_not_answer_fails(tmp_path: Path) -> None:
    settings = made(server={"data_dir": tmp_path}, core={"url": f"unix:{tmp_path}/core.sock"})
    assert of(list(check.inspect_core(settings)))[0] is Level.fail


def test_a_routes_folder_is_proven_by_use(tmp_path: Path) -> None:
    route = {"path": "/u", "action": "upload", "upstream": "http://127.0.0.1:1", "reserve_bytes": 0}

    def found(store: Path, **more: object) -> list[Finding]:
        settings = Settings.model_validate(
            {"server": {"data_dir": tmp_path}, "routes": [{**route, "store": store, **more}]}
        )
        return list(check_store.inspect_route_stores(settings))

    (tmp_path / "taken").write_text("a file")
    (tmp_path / "there").mkdir()
    assert "made with the first file" in found(tmp_path / "new")[0].what
    assert not (tmp_path / "new").exists()
    assert of(found(tmp_path / "there"))[0] is Level.ok
    assert [path for path in (tmp_path / "there").rglob("*") if path.is_file()] == []
    assert of(found(tmp_path / "taken"))[0] is Level.fail
    assert of(found(tmp_path / "there", reserve_bytes=1 << 60))[0] is Level.fail


def test_a_route_that_hides_has_nothing_to_prove(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"server": {"data_dir": tmp_path}, "routes": [{"prefix": "/done", "action": "hide"}]}
    )
    assert list(check_store.inspect_route_stores(settings)) == []


def test_a_routes_bucket_that_does_not_answer_fails(tmp_path: Path) -> None:
    route = {"path": "/u", "action": "upload", "upstream": "http://127.0.0.1:1", "store_s3": "bucket/in"}
    s3 = {"endpoint": "127.0.0.1:1", "access_key": "a"}
    settings = Settings.model_validate(
        {"server": {"data_dir": tmp_path}, "routes": [route], "storage": {"s3": s3}}
    )
    (finding,) = check_store.inspect_route_stores(settings)
    assert finding.level is Level.fail
    assert "keys" in finding.remedy
