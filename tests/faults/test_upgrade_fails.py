"""Owns what is true after an upgrade that did not work: the registry is as it was, and the command says so."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.open_upload import OpenUpload
from tests.support.product import Product, running_product
from tests.support.release import ReleaseFolder

MIB = 1 << 20
GENEROUS_S = 60.0


@pytest.fixture
def releases(short_path: Path) -> ReleaseFolder:
    return ReleaseFolder(short_path / "release")


@pytest.fixture
def running(short_path: Path, releases: ReleaseFolder) -> Iterator[Product]:
    with running_product(short_path / "product", settings=releases.environ) as product:
        yield product


def revision(product: Product) -> str:
    with closing(sqlite3.connect(product.data_dir / "registry.db")) as db:
        return str(db.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_a_migration_that_fails_is_undone_and_the_release_before_goes_on(
    running: Product, releases: ReleaseFolder
) -> None:
    token = running.new_user("ada")
    before = revision(running)
    with OpenUpload(running, token=token, collection="ada/t", name="x", size_bytes=4 * MIB) as upload:
        upload.send(2 * MIB)
        releases.install(migration_fails=True)
        done = running.run("gateway", "core", "upgrade", check=False)
        print(done.stdout, done.stderr)
        assert done.returncode == 1
        assert "a row that nobody foresaw" in done.stderr
        assert revision(running) == before
        status, _ = upload.finish()  # the new core cannot start, and the bytes are safe all the same
        assert status == 202
        status, _ = running.get("/")
        assert status == 503
        releases.remove()
        running.wait_ready(timeout_s=GENEROUS_S)
    until = time.monotonic() + GENEROUS_S
    while running.get("/v1/images/ada/t/x:latest?arch=amd64")[0] != 200:
        assert time.monotonic() < until, "the upload that was under way is an image"
        time.sleep(0.1)
    assert len(list((running.data_dir / "backups").iterdir())) == 1


def test_a_gateway_that_does_not_start_changes_nothing(running: Product, releases: ReleaseFolder) -> None:
    before = running.pid
    releases.install()
    releases.spoil_gateway()
    done = running.run("gateway", "upgrade", check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 1
    assert "did not get ready" in done.stderr
    assert running.pid == before
    assert running.get("/")[0] == 200
    releases.remove()
    running.upgrade()
    assert running.get("/")[0] == 200
