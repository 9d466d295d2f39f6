"""Owns the proof that the product works as a large site runs it: PostgreSQL over its socket, images in S3."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import running_postgres
from tests.support.product import Product, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, running_seaweed
from tests.support.sif import make_sif, make_small_sif

MIB = 1 << 20


@pytest.fixture(scope="module")
def site() -> Iterator[Product]:
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as folder,
        running_postgres() as postgres,
        running_seaweed(Path(folder) / "s3") as seaweed,
    ):
        # the names of the old stack's .minio-env, as they stand there
        settings = {
            "GATEWAY_REGISTRY__DATABASE_URL": postgres.new_database(),
            "GATEWAY_STORAGE__KIND": "s3",
            "MINIO_SERVER": seaweed.endpoint,
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BUCKET": "sregistry",
            "MINIO_SSL": "False",
        }
        with running_product(Path(folder) / "product", settings=settings) as product:
            yield product


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("size_bytes", [MIB, 150 * MIB], ids=["one-body", "parts"])
def test_a_push_ends_in_the_bucket_and_comes_back(site: Product, tmp_path: Path, size_bytes: int) -> None:
    image = make_sif(tmp_path / "image.sif", size_bytes=size_bytes)
    client = site.library(site.new_user(f"ada{size_bytes}"))
    client.run("push", f"ada{size_bytes}/tools/image", image)
    assert site.blob_files() == []
    for command in ("pull", "cpull"):
        client.run(command, f"ada{size_bytes}/tools/image:latest", tmp_path / command)
        assert _sha256(tmp_path / command) == _sha256(image)
    assert site.rss_mib(peak=True) <= 120


def test_an_upload_ends_in_the_bucket_and_is_deleted_there(site: Product, tmp_path: Path) -> None:
    image = make_small_sif(tmp_path / "image.sif")
    token = site.new_user("bea")
    done = site.curl(
        "--fail", "-H", f"Authorization: Bearer {token}", "-F", "name=image", "-F", f"file=@{image}",
        f"{site.base}/upload?collection=bea/web",
    )  # fmt: skip
    (stored,) = json.loads(done.stdout)["data"]["images"]
    assert stored["sha256"] == _sha256(image)
    client = site.library(token)
    client.run("pull", "bea/web/image:latest", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == image.read_bytes()
    client.run("delete", "bea/web/image:latest")
    site.run("registry", "gc")
