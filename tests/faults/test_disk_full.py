"""Owns what happens when the disk is full: said before the bytes where it can be known, and never a half image."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.open_upload import OpenUpload
from tests.support.product import Product, running_product
from tests.support.small_disk import small_disk

MIB = 1 << 20


@pytest.fixture
def disk(short_path: Path) -> Iterator[Path]:
    with small_disk(short_path / "disk", mib=32) as mount:
        yield mount


@pytest.fixture
def full_product(short_path: Path, disk: Path) -> Iterator[Product]:
    settings = {
        "GATEWAY_STORAGE__DISK__ROOT": str(disk),
        "GATEWAY_STORAGE__DISK__RESERVE_BYTES": str(MIB),
    }
    with running_product(short_path, settings=settings) as product:
        yield product


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 4096]


def test_what_cannot_fit_is_refused_at_once_with_507(full_product: Product, disk: Path) -> None:
    token = full_product.new_user("ada")
    with OpenUpload(full_product, token=token, collection="ada/t", name="x", size_bytes=64 * MIB) as upload:
        upload.send(MIB)
        status, _ = upload.answer()
    assert status == 507
    assert _files(disk) == []


def test_a_disk_that_fills_during_uploads_loses_only_those(full_product: Product, disk: Path) -> None:
    token = full_product.new_user("ada")
    with OpenUpload(full_product, token=token, collection="ada/t", name="kept", size_bytes=4 * MIB) as upload:
        assert upload.finish()[0] == 201
    ballast = disk / "ballast"
    with OpenUpload(
        full_product, token=token, collection="ada/t", name="lost", size_bytes=16 * MIB
    ) as upload:
        upload.send(2 * MIB)
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(bytes(MIB))
                    file.flush()
            except OSError:
                pass
        status, _ = upload.finish_or_answer()
    # Room was taken for it when it began, so it may have got through; if not, the answer says why.
    assert status in {201, 507}
    ballast.unlink()
    kept = 1 if status == 507 else 2
    assert len(_files(disk / "blobs")) == kept
    with OpenUpload(full_product, token=token, collection="ada/t", name="next", size_bytes=2 * MIB) as upload:
        assert upload.finish()[0] == 201


def test_an_upload_that_nobody_knew_the_length_of_is_told_507_and_the_others_go_on(
    full_product: Product, disk: Path
) -> None:
    token = full_product.new_user("ada")
    connection = http.client.HTTPSConnection(
        "localhost", full_product.https_port, context=full_product.ssl_context(), timeout=60
    )

    def more_than_fits() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.sif"\r\n\r\n'
        for _ in range(40):
            yield bytes(MIB)
        yield b"\r\n--b--\r\n"

    with OpenUpload(full_product, token=token, collection="ada/t", name="other", size_bytes=8 * MIB) as other:
        other.send(2 * MIB)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=b"}
        try:
            connection.request(
                "POST", "/upload?collection=ada/t&name=big", more_than_fits(), headers, encode_chunked=True
            )
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was answered before it had sent all
        assert connection.getresponse().status == 507
        connection.close()
        assert other.finish()[0] == 201
    with OpenUpload(full_product, token=token, collection="ada/t", name="next", size_bytes=8 * MIB) as upload:
        assert upload.finish()[0] == 201
    assert len(_files(disk / "blobs")) == 2
    assert len({path.stat().st_ino for path in _files(disk)}) == 2, "nothing else lies on the disk"
