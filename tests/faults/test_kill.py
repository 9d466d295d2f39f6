"""Owns what must be true after kill -9 of any process at a bad moment."""

import hashlib
import json
import time
from collections.abc import Callable

import pytest

from tests.support.open_upload import OpenUpload
from tests.support.processes import wait_gone
from tests.support.product import Product

MIB = 1 << 20


def _eventually(claim: Callable[[], bool], what: str, *, within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def _is_listed(product: Product, ref: str, digest: str, token: str) -> bool:
    status, body = product.get(f"/v1/images/{ref}?arch=amd64", headers={"Authorization": f"Bearer {token}"})
    return status == 200 and json.loads(body)["data"]["hash"] == f"sha256.{digest}"


def test_an_upload_survives_the_death_of_the_core(product: Product) -> None:
    token = product.new_user("ada")
    with OpenUpload(product, token=token, collection="ada/t", name="x", size_bytes=40 * MIB) as upload:
        upload.send(20 * MIB)
        product.kill_core()
        status, body = upload.finish()
        assert status in {201, 202}, body
        digest = hashlib.sha256(upload.content).hexdigest()
        _eventually(lambda: _is_listed(product, "ada/t/x:latest", digest, token), "the image is listed")
    assert product.staging_files() == []


def test_the_page_comes_and_goes_with_the_core(product: Product) -> None:
    assert product.get("/")[0] == 200
    product.kill_core()
    seen = []

    def is_back() -> bool:
        status, body = product.get("/", headers={"Accept": "text/html"})
        seen.append(status)
        assert status in {200, 503}, body
        return status == 200

    _eventually(is_back, "the start page is back")
    status, _ = product.get("/-/readyz")
    assert status == 200


def test_killing_the_gateway_during_an_upload_leaves_nothing(product: Product) -> None:
    token = product.new_user("ada")
    with OpenUpload(product, token=token, collection="ada/t", name="x", size_bytes=40 * MIB) as upload:
        upload.send(20 * MIB)
        _eventually(lambda: bool(product.staging_files()), "the bytes reach staging")
        product.kill()
    product.start()
    assert product.staging_files() == []
    assert product.blob_files() == []
    with OpenUpload(product, token=token, collection="ada/t", name="y", size_bytes=MIB) as upload:
        assert upload.finish()[0] == 201
    assert len(product.blob_files()) == 1


def test_a_core_without_its_gateway_does_not_linger(product: Product) -> None:
    core = product.core_pid()
    product.kill_gateway_only()
    assert wait_gone([core], timeout_s=10) == []
    product.start()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_restart_in_order_lets_an_upload_finish(product: Product, moment: str) -> None:
    """SIGTERM drains: what runs is finished, and what is finished is kept."""
    token = product.new_user("ada")
    with OpenUpload(product, token=token, collection="ada/t", name="x", size_bytes=4 * MIB) as upload:
        digest = hashlib.sha256(upload.content).hexdigest()
        upload.send(2 * MIB)
        if moment == "before":
            _eventually(lambda: bool(product.staging_files()), "the bytes reach staging")
            product.terminate()
        status, _ = upload.finish()
    assert status in {201, 202}
    if moment == "before":
        product.wait_ended()
        product.start()
    else:
        product.restart()
    _eventually(lambda: _is_listed(product, "ada/t/x:latest", digest, token), "the image is listed")
