"""Owns the proof that a registry moves from disk to S3 and back while it serves."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import Product, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, running_seaweed


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as server:
        yield server


@pytest.fixture
def product(seaweed: Seaweed) -> Iterator[Product]:
    settings = {
        "MINIO_SERVER": seaweed.endpoint,
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_BUCKET": f"images-{os.urandom(4).hex()}",
    }
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as folder,
        running_product(Path(folder), settings=settings) as running,
    ):
        yield running


def upload(product: Product, token: str, name: str, content: bytes) -> None:
    file = product.folder / name
    file.write_bytes(content)
    product.curl(
        "--fail", "-H", f"Authorization: Bearer {token}", "-F", f"name={name}", "-F", f"file=@{file}",
        f"{product.base}/upload?collection=ada/tools",
    )  # fmt: skip


def download(product: Product, name: str) -> bytes:
    file = product.folder / "back"
    product.curl("--fail", "-L", "-o", file, f"{product.base}/v1/imagefile/ada/tools/{name}:latest")
    return file.read_bytes()


def migrate(product: Product, source: str, target: str) -> subprocess.CompletedProcess[str]:
    return product.run("registry", "store", "migrate", "--from", source, "--to", target, check=False)


def switch_to(product: Product, kind: str) -> None:
    product._settings = {**product._settings, "GATEWAY_STORAGE__KIND": kind}
    product.restart()


def test_all_images_move_to_s3_and_back_while_the_registry_serves(product: Product) -> None:
    token = product.new_user("ada")
    contents = {f"tool{number}": os.urandom(3_000_000) for number in range(3)}
    for name, content in contents.items():
        upload(product, token, name, content)
    there = migrate(product, "disk", "s3")
    assert there.returncode == 0
    assert "3 images copied" in there.stderr
    contents["late"] = os.urandom(5000)
    upload(product, token, "late", contents["late"])
    again = migrate(product, "disk", "s3")
    assert "1 images copied" in again.stderr
    assert "3 were there" in again.stderr
    switch_to(product, "s3")
    assert {name: download(product, name) for name in contents} == contents
    assert "All is well" in product.run("registry", "fsck").stderr

    contents["new"] = os.urandom(7000)
    upload(product, token, "new", contents["new"])
    assert "1 images copied" in migrate(product, "s3", "disk").stderr
    switch_to(product, "disk")
    assert {name: download(product, name) for name in contents} == contents
    assert "All is well" in product.run("registry", "fsck").stderr


def test_what_is_damaged_is_named_and_not_copied(product: Product) -> None:
    token = product.new_user("ada")
    upload(product, token, "good", os.urandom(5000))
    upload(product, token, "bad", os.urandom(5000))
    (bad,) = (path for path in product.blob_files() if "bad" in path.name)
    bad.chmod(0o600)
    bad.write_bytes(os.urandom(5000))
    done = migrate(product, "disk", "s3")
    assert done.returncode == 1
    assert f"damaged  ada/tools/{bad.name}" in done.stdout
    assert "1 images copied" in done.stderr


def test_a_store_is_not_moved_to_itself(tmp_path: Path) -> None:
    with running_product(tmp_path, start=False) as stopped:
        assert migrate(stopped, "s3", "s3").returncode == 2
