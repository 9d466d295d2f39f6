"""Owns that uploads which begin while the core is away are kept, delivered, or refused in words: the whole product."""

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product, running_product

SOON_S = 30.0


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with running_product(tmp_path, settings={"GATEWAY_MAINTENANCE__SPOOL": "true"}) as running:
        yield running


@contextmanager
def core_away(product: Product) -> Iterator[None]:
    core = product.core_pid()
    os.kill(core, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + SOON_S
        while product.get("/collections")[0] != 503:
            assert time.monotonic() < deadline
        time.sleep(0.5)
        yield
    finally:
        os.kill(core, signal.SIGCONT)


def upload(product: Product, token: str, file: Path, name: str) -> tuple[int, Any]:
    done = product.curl(
        "-H", f"Authorization: Bearer {token}", "-F", f"name={name}", "-F", f"file=@{file}",
        "-w", "\n%{http_code}", f"{product.base}/upload?collection=ada/tools",
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def outcome(product: Product, path: str) -> tuple[int, Any]:
    deadline = time.monotonic() + SOON_S
    while True:
        status, body = product.get(path)
        if status not in {202, 503}:
            return status, json.loads(body)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_known_uploads_wait_for_the_core_and_strangers_do_not_begin(product: Product, tmp_path: Path) -> None:
    token, stranger = product.new_user("ada"), product.new_user("bob")
    revoked = product.token("ada")
    file = tmp_path / "a.sif"
    file.write_bytes(os.urandom(200_000))
    other = tmp_path / "b.sif"
    other.write_bytes(os.urandom(100_000))
    assert upload(product, token, file, "one")[0] == 201
    assert upload(product, revoked, file, "one")[0] == 201
    blobs = len(product.blob_files())
    with core_away(product):
        assert upload(product, stranger, file, "no")[0] == 503
        status, body = upload(product, token, file, "two")
        assert (status, body["data"]["status"]) == (202, "pending")
        status, doomed = upload(product, revoked, other, "three")
        assert status == 202
        product.registry("token", "revoke", _newest_token(product))
    status, result = outcome(product, body["data"]["url"])
    assert status == 200
    assert result["data"]["images"][0]["ref"] == "ada/tools/two:latest"
    status, refused = outcome(product, doomed["data"]["url"])
    assert status == 403
    assert "revoked" in refused["error"]["message"]
    assert len(product.blob_files()) == blobs + 1  # 'two' is there, nothing of 'three' is
    assert product.get("/v1/images/ada/tools/three:latest")[0] == 404


def test_a_resumable_upload_waits_for_the_core_too(product: Product, tmp_path: Path) -> None:
    token = product.new_user("ada")
    file = tmp_path / "a.sif"
    file.write_bytes(os.urandom(200_000))
    assert upload(product, token, file, "one")[0] == 201
    said = {"collection": "ada/tools", "name": "two", "tag": "latest", "filename": "a.sif"}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
    with core_away(product):
        sent = product.curl(
            "-D", "-", "-H", f"Authorization: Bearer {token}", "-H", "Tus-Resumable: 1.0.0",
            "-H", "Upload-Length: 200000", "-H", f"Upload-Metadata: {metadata}",
            "-H", "Content-Type: application/offset+octet-stream", "--data-binary", f"@{file}",
            f"{product.base}/uploads",
        ).stdout.lower()  # fmt: skip
        assert sent.startswith("http/1.1 201"), sent
        assert "upload-offset: 200000" in sent
    deadline = time.monotonic() + SOON_S
    while product.get("/v1/images/ada/tools/two:latest")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_while_all_is_closed_known_uploads_are_still_taken(product: Product, tmp_path: Path) -> None:
    token, stranger = product.new_user("ada"), product.new_user("bob")
    file = tmp_path / "a.sif"
    file.write_bytes(os.urandom(200_000))
    assert upload(product, token, file, "one")[0] == 201
    product.run("gateway", "maintenance", "on", "--message", "New disks.")
    assert product.get("/collections")[0] == 503
    status, body = upload(product, stranger, file, "no")
    assert (status, "New disks." in body["error"]["message"]) == (503, True)
    with core_away(product):
        status, body = upload(product, token, file, "two")
        assert status == 202
        assert product.get(body["data"]["url"])[0] == 202
    assert outcome(product, body["data"]["url"])[0] == 200
    product.run("gateway", "maintenance", "off")
    assert product.get("/v1/images/ada/tools/two:latest")[0] == 200


def _newest_token(product: Product) -> str:
    listed = product.registry("token", "list", "ada")
    return max(
        (line.split()[0] for line in listed.splitlines() if line.split()[:1] and line.split()[0].isdecimal()),
        key=int,
    )
