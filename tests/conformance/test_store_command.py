"""Owns the proof that a registry moves from disk to S3 and back while it serves."""

import os
import subprocess
import sys
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


def migrate(product: Product, source: str, target: str, *options: str) -> subprocess.CompletedProcess[str]:
    return product.run(
        "registry", "store", "migrate", "--from", source, "--to", target, *options, check=False
    )


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


def flip_a_byte(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))


def test_what_the_target_has_is_digested_and_mended_from_the_source(product: Product) -> None:
    token = product.new_user("ada")
    content = os.urandom(3_000_000)
    upload(product, token, "tool", content)
    assert migrate(product, "disk", "s3").returncode == 0
    (file,) = product.blob_files()
    flip_a_byte(file)
    trusting = migrate(product, "s3", "disk", "--trust-existing")
    assert (trusting.returncode, "1 were there, 0 were there but damaged" in trusting.stderr) == (0, True)
    mended = migrate(product, "s3", "disk")
    assert mended.returncode == 0
    assert "0 were there, 1 were there but damaged and are replaced" in mended.stderr
    assert "damaged in the target" in mended.stdout
    assert download(product, "tool") == content
    assert "All is well" in product.run("registry", "fsck").stderr
    assert list((product.data_dir / "migrate").iterdir()) == []


def test_a_damaged_object_of_the_bucket_is_mended_from_the_disk(product: Product, seaweed: Seaweed) -> None:
    token = product.new_user("ada")
    content = os.urandom(5000)
    upload(product, token, "tool", content)
    assert migrate(product, "disk", "s3").returncode == 0
    store = seaweed.store(product.environ["MINIO_BUCKET"], product.folder / "looking")
    try:
        (damaged,) = (found.name for found in store._records.list("objects/"))
        store._records.write(f"objects/{damaged}", b"?" + content[1:])
        assert "1 were there but damaged and are replaced" in migrate(product, "disk", "s3").stderr
        (key,) = store.keys()
        with store.open(key) as file:
            assert file.read() == content
        assert damaged not in [found.name for found in store._records.list("objects/")]
    finally:
        store.close()


def test_what_a_killed_run_left_is_removed_by_the_next(product: Product) -> None:
    token = product.new_user("ada")
    upload(product, token, "tool", os.urandom(3_000_000))
    assert migrate(product, "disk", "s3").returncode == 0
    switch_to(product, "s3")
    (file,) = product.blob_files()
    file.unlink()
    # Its bytes are on the disk still, unnamed: the copy is only begun once they are gone, too.
    for left in (product.data_dir / "objects").rglob("*"):
        if left.is_file():
            left.unlink()
    words = ["store", "migrate", "--from", "s3", "--to", "disk", "--data-dir", str(product.data_dir)]
    code = (
        "import os\nfrom gateway.store.disk_staging import DiskWriter\nfrom registry_core.cli import main\n"
        "DiskWriter.seal = lambda writer: os.kill(os.getpid(), 9)\n"
        f"main({words!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], env=product.environ, check=False).returncode == -9
    staging = product.data_dir / "staging"
    (orphan,) = staging.iterdir()
    assert "1 images copied" in migrate(product, "s3", "disk").stderr
    assert not orphan.exists()
    assert list(staging.iterdir()) == []


def test_commands_with_other_settings_than_the_running_gateway_judge_nothing(product: Product) -> None:
    token = product.new_user("ada")
    switch_to(product, "s3")
    upload(product, token, "tool", os.urandom(5000))
    product.stop()
    environ = product._settings
    try:
        product.start()
        product._settings = {**environ, "GATEWAY_STORAGE__KIND": "disk"}
        for words in (("fsck",), ("gc",), ("backup", str(product.folder / "saved"))):
            refused = product.run("registry", *words, check=False)
            assert refused.returncode == 1
            assert "keeps its images in S3" in refused.stderr
            assert "damaged" not in refused.stderr + refused.stdout
        assert not (product.folder / "saved").exists()
        checked = product.run("gateway", "check", check=False)
        assert checked.returncode == 1
        assert "keeps its images in S3" in checked.stdout
    finally:
        product._settings = environ
    assert "All is well" in product.run("registry", "fsck").stderr


def test_a_store_is_not_moved_to_itself(tmp_path: Path) -> None:
    with running_product(tmp_path, start=False) as stopped:
        assert migrate(stopped, "s3", "s3").returncode == 2
