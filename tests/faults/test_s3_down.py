"""Owns the proof that a registry starts and stays without S3, says what it cannot do, and recovers by itself."""

import json
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed


def ask(product: Product, path: str, **options: Any) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body, redirects followed."""
    request = urllib.request.Request(product.base + path, **options)
    try:
        with urllib.request.urlopen(request, context=product.ssl_context(), timeout=60) as answer:
            return answer.status, lower(answer.headers), answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, lower(refusal.headers), refusal.read()


def lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def upload(product: Product, token: str, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
    body = (
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="tool.sif"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=b"}
    return ask(product, "/upload?collection=ada/tools&name=tool", data=body, headers=headers, method="POST")


@pytest.mark.parametrize("direct", ["false", "true"])
def test_s3_that_is_down_at_the_start_and_comes_later(direct: str) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        seaweed = Seaweed(Path(folder) / "s3")
        settings = {
            "GATEWAY_STORAGE__KIND": "s3",
            "GATEWAY_STORAGE__S3__DIRECT": direct,
            "MINIO_SERVER": seaweed.endpoint,
            "MINIO_EXTERNAL_SERVER": seaweed.endpoint,
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
        }
        content = os.urandom(5000)
        image = "/v1/imagefile/ada/tools/tool:latest"
        seaweed.start()
        try:
            with running_product(Path(folder) / "product", settings=settings) as product:
                token = product.new_user("ada")
                assert upload(product, token, content)[0] == 201
                product.stop()
                seaweed.stop()

                product.start(wait=False)
                _wait_answered(product, "/", 200)
                assert ask(product, "/collections/ada/tools")[0] == 200
                assert ask(product, "/v1/images/ada/tools/tool:latest")[0] == 200
                for refused in (ask(product, image), upload(product, token, content[1:])):
                    assert refused[0] == 503
                    assert int(refused[1]["retry-after"]) > 0
                    assert json.loads(refused[2])["error"]["code"] == 503
                status, _, body = ask(product, "/-/readyz")
                assert status == 503
                assert seaweed.endpoint in json.loads(body)["reasons"]["store"]

                seaweed.start()
                product.wait_ready()
                assert ask(product, image)[2] == content
                assert upload(product, token, content[1:])[0] == 201
        finally:
            seaweed.stop()


def _wait_answered(product: Product, path: str, status: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            found = ask(product, path)[0]
        except OSError:
            found = 0
        if found == status:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
