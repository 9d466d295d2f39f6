"""Owns which settings a running process takes up, and which wait for the next one."""

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.settings_change import _BUT, _CORE_READS, _FOR_LIFE, change, pinned
from gateway.settings_source import setting_names
from gateway.supervise import environment_of

OLD: dict[str, Any] = {"registry": {"name": "Old"}, "server": {"http": "127.0.0.1:1"}}


def made(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def test_the_same_settings_change_nothing() -> None:
    result = change(made(**OLD), made(**OLD))
    assert (result.changed, result.waiting) == ((), ())
    assert not result.concerns_core


def test_what_can_change_does_and_the_rest_stays_as_it_is() -> None:
    wanted = made(
        registry={"name": "New", "database_url": "postgresql://x"},
        server={"http": "127.0.0.1:2", "workers": 3, "data_dir": "/else", "cors_origins": ["https://a"]},
        storage={"kind": "s3", "cleanup": False, "s3": {"bucket": "other", "access_key": "new"}},
        core={"url": "http://core:1", "head_s": 5},
        limits={"uploads": 3},
        routes=[{"prefix": "/x", "upstream": "http://127.0.0.1:9"}],
    )
    result = change(made(**OLD), wanted)
    assert set(result.waiting) == {
        "registry.database_url", "server.http", "server.workers", "server.data_dir", "storage.kind",
        "storage.s3.bucket", "core.url",
    }  # fmt: skip
    assert set(result.changed) == {
        "registry.name", "server.cors_origins", "storage.cleanup", "storage.s3.access_key", "core.head_s",
        "limits.uploads", "routes",
    }  # fmt: skip
    settings = result.settings
    assert (settings.registry.name, settings.core.head_s, settings.limits.uploads) == ("New", 5, 3)
    assert settings.storage.s3.access_key.get_secret_value() == "new"
    assert (settings.storage.kind, settings.server.http, settings.core.url) == ("disk", "127.0.0.1:1", "")
    assert settings.routes == wanted.routes
    assert result.concerns_core
    # Once more: what waits is named again, what has changed is no news.
    again = change(settings, wanted)
    assert (again.changed, again.waiting) == ((), result.waiting)


def test_another_kind_of_certificate_waits_with_all_that_it_needs() -> None:
    old = made(tls={"mode": "files", "certificate": "/a.crt", "key": "/a.key"})
    moved = change(old, made(tls={"mode": "files", "certificate": "/b.crt", "key": "/b.key"}))
    assert (set(moved.changed), moved.waiting) == ({"tls.certificate", "tls.key"}, ())
    other = change(old, made(tls={"mode": "dev", "hsts_s": 5}))
    assert (other.changed, other.waiting) == (("tls.hsts_s",), ("tls.mode",))
    assert other.settings.tls.mode == "files"
    assert other.settings.tls.certificate == Path("/a.crt")


@pytest.mark.parametrize("name", ["limits.uploads", "log.access", "maintenance.retry_after_s", "tls.hsts_s"])
def test_the_core_is_left_alone_by_what_it_does_not_read(name: str) -> None:
    section, leaf = name.split(".")
    value = not Settings().log.access if leaf == "access" else 77
    result = change(Settings(), made(**{section: {leaf: value}}))
    assert result.changed == (name,)
    assert not result.concerns_core


def test_what_waits_is_kept_from_the_core_too() -> None:
    now = made(server={"more_http": ["127.0.0.1:5", "[::1]:6"]}, tls={"client_ca": None})
    fixed = pinned(now, ("storage.kind", "server.more_http", "tls.client_ca", "storage.disk.fsync"))
    assert environment_of(fixed) == {
        "GATEWAY_STORAGE__KIND": "disk",
        "GATEWAY_SERVER__MORE_HTTP": "127.0.0.1:5,[::1]:6",
        "GATEWAY_TLS__CLIENT_CA": "",
        "GATEWAY_STORAGE__DISK__FSYNC": "true",
    }


def test_whatever_the_core_reads_restarts_it_or_waits() -> None:
    """Names of settings in the core's code: each must be on one of the lists."""
    code = "".join(path.read_text() for path in Path("registry_core").rglob("*.py"))
    read = {f"{a}.{b}" for a, b in re.findall(r"settings\.([a-z0-9_]+)\.([a-z_0-9]+)", code)}
    read = {name for name in read if name in set(setting_names())}
    assert {"registry.quota_bytes", "log.level", "storage.cleanup"} <= read
    for name in read:
        section, leaf = name.split(".")
        old = getattr(getattr(Settings(), section), leaf)
        other = Settings().model_copy(
            update={section: getattr(Settings(), section).model_copy(update={leaf: ("other", old)})}
        )
        result = change(Settings(), other)
        assert result.concerns_core or result.waiting == (name,), name


@pytest.mark.parametrize("name", [*_FOR_LIFE, *_BUT, *_CORE_READS])
def test_every_name_in_the_lists_is_a_setting(name: str) -> None:
    assert any(known == name or known.startswith(f"{name}.") for known in setting_names())


def test_all_of_hsts_is_taken_up_together() -> None:
    year = {"hsts_s": 31_536_000, "hsts_include_subdomains": True, "hsts_preload": True}
    result = change(made(), made(tls=year))
    assert result.waiting == ()
    assert result.settings.tls.hsts == "max-age=31536000; includeSubDomains; preload"
