"""Tests of the stores of all upload routes together: one bound of memory, new keys, one that is down."""

import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreDown
from gateway.settings import Settings
from gateway.store.opening import open_store
from gateway.store.s3_store import S3Store
from gateway.upload.route_s3 import S3RouteStore
from gateway.upload.route_store import RouteStore, new_name
from gateway.upload.route_stores import open_route_stores, renew_route_keys, sweep_route_stores


def _settings(folder: Path, *stores: dict[str, Any], kind: str = "disk", key: str = "old") -> Settings:
    common = {"action": "upload", "upstream": "http://127.0.0.1:1"}
    s3 = {"endpoint": "127.0.0.1:1", "access_key": key, "secret_key": "secret"}
    return Settings.model_validate(
        {
            "server": {"data_dir": folder},
            "storage": {"kind": kind, "s3": s3},
            "routes": [{"path": f"/{n}", **common, **store} for n, store in enumerate(stores)],
        }
    )


def _in_s3(settings: Settings) -> list[S3RouteStore]:
    stores = open_route_stores(settings, open_store(settings))
    return [store for _, store in stores if isinstance(store, S3RouteStore)]


def test_each_upload_route_has_its_store_in_their_order(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path, {"store": tmp_path / "a"}, {"store_s3": "box/in"}, {"store": tmp_path / "c"}
    )
    stores = open_route_stores(settings, open_store(settings))
    assert [type(store) for _, store in stores] == [RouteStore, S3RouteStore, RouteStore]
    assert [route.path for route, _ in stores] == ["/0", "/1", "/2"]


def test_all_that_goes_to_s3_shares_one_bound_of_memory(tmp_path: Path) -> None:
    places = ({"store_s3": "box/one"}, {"store_s3": "box/two"})
    first, second = _in_s3(_settings(tmp_path, *places))
    assert first._multiparts.buffers is second._multiparts.buffers
    settings = _settings(tmp_path, *places, kind="s3")
    images = open_store(settings)
    assert isinstance(images, S3Store)
    for _, store in open_route_stores(settings, images):
        assert isinstance(store, S3RouteStore)
        assert store._multiparts.buffers is images.buffers


def test_a_reload_gives_every_store_in_s3_the_new_key_and_keeps_the_old_one_as_the_last(
    tmp_path: Path,
) -> None:
    places = ({"store_s3": "box/one"}, {"store": tmp_path / "a"}, {"store_s3": "box/two"})
    settings = _settings(tmp_path, *places)
    stores = open_route_stores(settings, open_store(settings))
    renew_route_keys(stores, _settings(tmp_path, *places, key="new"))
    in_s3 = [store for _, store in stores if isinstance(store, S3RouteStore)]
    assert [store.wire.signer().keys[0] for store in in_s3] == ["new", "new"]
    assert [[access for access, _ in store.wire._keys] for store in in_s3] == [["new", "old"]] * 2


def test_a_store_that_is_down_does_not_keep_the_others_from_being_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(tmp_path, {"store_s3": "box/in"}, {"store": tmp_path / "a"})
    stores = open_route_stores(settings, open_store(settings))
    left = tmp_path / "a" / ".incoming" / new_name()
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")

    def fail(*_: Any, **__: Any) -> int:
        raise StoreDown(detail="nobody answers")

    monkeypatch.setattr(S3RouteStore, "sweep", fail)
    with caplog.at_level(logging.WARNING):
        assert sweep_route_stores(stores) == 1
    assert not left.exists()
    assert "/0" in caplog.text
    assert "nobody answers" in caplog.text
