"""Owns the proof that the real library client works with S3, through the gateway and directly.

The large image has 200 MiB, or TEST_S3_BYTES. With 1 GiB, in parts, in both modes:
``TEST_S3_BYTES=$((1 << 30)) .venv/bin/python -m pytest tests/conformance/test_s3_pushes.py -k large_image --timeout 900``
"""

import hashlib
import http.client
import json
import os
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.browser import chromium, visiting
from tests.support.library_client import ClientFailed
from tests.support.product import Product, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, running_seaweed
from tests.support.sif import make_sif, make_small_sif

MIB: Final = 1 << 20
LARGE_BYTES: Final = int(os.environ.get("TEST_S3_BYTES", 200 * MIB))
KIND: Final = {
    "GATEWAY_STORAGE__KIND": "s3",
    "MINIO_ROOT_USER": ACCESS_KEY,
    "MINIO_ROOT_PASSWORD": SECRET_KEY,
}


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Site:
    """A product, what its bucket is called, and the server that has it."""

    product: Product
    seaweed: Seaweed
    bucket: str

    def objects(self) -> list[str]:
        """What lies in the bucket."""
        store = self.seaweed.store(self.bucket, self.product.folder / "looking")
        try:
            return [found.name for found in store._records.list("")]
        finally:
            store.close()

    def unfinished(self) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        store = self.seaweed.store(self.bucket, self.product.folder / "looking")
        try:
            return len(list(store._multiparts.list("objects/")))
        finally:
            store.close()


def site(seaweed: Seaweed, bucket: str, settings: Mapping[str, str]) -> Iterator[Site]:
    values = {**KIND, "MINIO_SERVER": seaweed.endpoint, "MINIO_BUCKET": bucket, **settings}
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as folder,
        running_product(Path(folder), settings=values) as product,
    ):
        yield Site(product, seaweed, bucket)


@pytest.fixture(scope="module")
def proxied(seaweed: Seaweed) -> Iterator[Site]:
    yield from site(seaweed, "proxied", {})


@pytest.fixture(scope="module")
def direct(seaweed: Seaweed) -> Iterator[Site]:
    # Another name of the same server: what is signed for one host is refused under another.
    external = f"localhost:{seaweed.port}"
    settings = {"GATEWAY_STORAGE__S3__DIRECT": "true", "MINIO_EXTERNAL_SERVER": external}
    yield from site(seaweed, "direct", settings)


@pytest.fixture(scope="module")
def one_piece(seaweed: Seaweed) -> Iterator[Site]:
    external = f"localhost:{seaweed.port}"
    settings = {
        "GATEWAY_STORAGE__S3__DIRECT": "true",
        "MINIO_EXTERNAL_SERVER": external,
        "MINIO_MULTIPART_UPLOAD": "False",
    }
    yield from site(seaweed, "onepiece", settings)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def send(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
    """PUT as a client without the library would."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", body, dict(headers or {}))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


class Push:
    """A push by hand, as far as the test wants to go."""

    def __init__(self, site: Site, user: str, content: bytes) -> None:
        self.site = site
        self.user = user
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.token = site.product.new_user(user)
        entity = self.call("POST", "/v1/entities", {"name": user})["data"]["id"]
        collection = self.call("POST", "/v1/collections", {"name": "t", "entity": entity})["data"]["id"]
        container = self.call("POST", "/v1/containers", {"name": "x", "collection": collection})["data"]["id"]
        image = {"hash": f"sha256.{self.sha256}", "container": container}
        self.image = self.call("POST", "/v1/images", image)["data"]["id"]

    def call(self, method: str, path: str, body: object) -> dict[str, Any]:
        request = urllib.request.Request(
            self.site.product.base + path,
            data=json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(
                request, context=self.site.product.ssl_context(), timeout=60
            ) as answer:
                return {**json.load(answer), "status": answer.status}
        except urllib.error.HTTPError as refusal:
            with refusal:
                return {**json.load(refusal), "status": refusal.code}

    def begin(self, *, sha256: str) -> str:
        said = {"filesize": len(self.content), "sha256sum": sha256}
        return str(self.call("POST", f"/v2/imagefile/{self.image}", said)["data"]["uploadURL"])

    def complete(self) -> dict[str, Any]:
        return self.call("PUT", f"/v2/imagefile/{self.image}/_complete", {})

    def is_visible(self) -> bool:
        found = self.site.product.get_json(
            f"/v1/images/{self.user}/t/x:sha256.{self.sha256}", token=self.token
        )
        return bool(found.get("uploaded"))


@pytest.mark.parametrize("mode", ["proxied", "direct"])
def test_a_large_image_goes_in_parts_and_comes_back(
    mode: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: Site = request.getfixturevalue(mode)
    image = make_sif(tmp_path / "image.sif", size_bytes=LARGE_BYTES)
    client = site.product.library(site.product.new_user("ada"))
    client.run("push", "ada/tools/image", image)
    assert site.product.blob_files() == []
    assert site.unfinished() == 0
    for command in ("pull", "cpull"):
        client.run(command, "ada/tools/image:latest", tmp_path / command)
        assert sha256_of(tmp_path / command) == sha256_of(image)
        (tmp_path / command).unlink()
    assert site.product.rss_mib(peak=True) <= 120


@pytest.mark.parametrize("mode", ["proxied", "direct", "one_piece"])
def test_a_small_image_goes_in_one_piece_and_comes_back(
    mode: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: Site = request.getfixturevalue(mode)
    image = make_small_sif(tmp_path / "image.sif")
    client = site.product.library(site.product.new_user("bea"))
    client.run("push", "bea/tools/image", image)
    for command in ("pull", "cpull"):
        client.run(command, "bea/tools/image:latest", tmp_path / command)
        assert (tmp_path / command).read_bytes() == image.read_bytes()


def test_without_multipart_a_large_image_goes_in_one_piece(one_piece: Site, tmp_path: Path) -> None:
    image = make_sif(tmp_path / "image.sif", size_bytes=80 * MIB)
    client = one_piece.product.library(one_piece.product.new_user("cal"))
    client.run("push", "cal/tools/image", image)
    client.run("pull", "cal/tools/image:latest", tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(image)


@pytest.mark.parametrize("mode", ["proxied", "direct"])
def test_a_browsers_upload_lands_in_the_bucket_and_is_pulled(
    mode: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: Site = request.getfixturevalue(mode)
    image = make_sif(tmp_path / "image.sif", size_bytes=20 * MIB)
    password = site.product.add_user("ola")
    with chromium() as browser, visiting(browser, site.product) as visit:
        visit.sign_in("ola", password)
        visit.page.goto("/upload")
        visit.page.get_by_label("Collection").fill("ola/web")
        visit.page.get_by_label("Container").fill("image")
        visit.page.get_by_label("Image files").set_input_files(image)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        visit.page.get_by_role("link", name="ola/web/image:latest").wait_for()
        assert visit.complaints == []
        assert visit.strangers == []
    assert f"blobs/ola/web/image:sha256.{sha256_of(image)}" in site.objects()
    assert site.unfinished() == 0
    assert site.product.blob_files() == []
    site.product.library(site.product.token("ola")).run("pull", "ola/web/image:latest", tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(image)


@pytest.mark.parametrize("mode", ["proxied", "direct"])
def test_a_form_lands_in_the_bucket_and_is_pulled(
    mode: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: Site = request.getfixturevalue(mode)
    image = make_sif(tmp_path / "image.sif", size_bytes=20 * MIB)
    token = site.product.new_user("dan")
    site.product.curl(
        "--fail", "-H", f"Authorization: Bearer {token}", "-F", "name=image", "-F", f"file=@{image}",
        f"{site.product.base}/upload?collection=dan/web",
    )  # fmt: skip
    assert f"blobs/dan/web/image:sha256.{sha256_of(image)}" in site.objects()
    site.product.library(token).run("pull", "dan/web/image:latest", tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(image)


def test_links_name_the_external_host_the_digest_and_an_end(direct: Site) -> None:
    push = Push(direct, "eve", b"some bytes")
    url = urllib.parse.urlsplit(push.begin(sha256=push.sha256))
    query = dict(urllib.parse.parse_qsl(url.query))
    assert url.netloc == f"localhost:{direct.seaweed.port}"
    assert query["X-Amz-SignedHeaders"] == "host;x-amz-content-sha256"
    assert query["X-Amz-Expires"] == "300"
    # A client that did not tell the digest would not send it either.
    silent = urllib.parse.urlsplit(push.begin(sha256=""))
    assert dict(urllib.parse.parse_qsl(silent.query))["X-Amz-SignedHeaders"] == "host"


def test_bytes_that_were_not_promised_are_never_visible(direct: Site) -> None:
    push = Push(direct, "fay", os.urandom(17))
    url = push.begin(sha256=push.sha256)
    status = send(url, b"what was smuggled", {"x-amz-content-sha256": push.sha256})
    refused = push.complete()
    if status == 200:  # this server does not look at the bytes itself
        assert refused["status"] == 422
        assert "push again" in refused["error"]["message"]
    assert not push.is_visible()
    send(push.begin(sha256=push.sha256), push.content, {"x-amz-content-sha256": push.sha256})
    assert push.complete()["status"] == 200
    assert push.is_visible()


def test_a_wrong_size_is_refused(direct: Site) -> None:
    push = Push(direct, "gil", os.urandom(17))
    send(push.begin(sha256=""), b"short")
    assert push.complete()["status"] == 422
    assert not push.is_visible()


def test_a_link_cannot_change_an_image_that_was_verified(direct: Site) -> None:
    push = Push(direct, "hal", os.urandom(17))
    url = push.begin(sha256="")
    assert send(url, push.content) == 200
    assert push.complete()["status"] == 200
    assert send(url, b"what was smuggled") == 404
    _, body = direct.product.get(f"/v1/imagefile/hal/t/x:sha256.{push.sha256}")
    assert body == push.content


def test_completing_twice_is_answered_twice(direct: Site) -> None:
    push = Push(direct, "ida", os.urandom(17))
    send(push.begin(sha256=""), push.content)
    assert [push.complete()["status"] for _ in range(2)] == [200, 200]


def test_nothing_arrived_is_said(direct: Site) -> None:
    push = Push(direct, "joe", os.urandom(17))
    push.begin(sha256=push.sha256)
    refused = push.complete()
    assert refused["status"] == 409
    assert "Push again" in refused["error"]["message"]


def test_an_aborted_push_leaves_nothing(direct: Site) -> None:
    push = Push(direct, "kim", os.urandom(70 * MIB))
    before = direct.unfinished()
    begun = push.call("POST", f"/v2/imagefile/{push.image}/_multipart", {"filesize": 70 * MIB})["data"]
    part = {"uploadID": begun["uploadID"], "partNumber": 1, "partSize": begun["partSize"], "sha256sum": ""}
    url = push.call("PUT", f"/v2/imagefile/{push.image}/_multipart", part)["data"]["presignedURL"]
    assert send(url, push.content[: begun["partSize"]]) == 200
    assert direct.unfinished() == before + 1
    push.call("PUT", f"/v2/imagefile/{push.image}/_multipart_abort", {"uploadID": begun["uploadID"]})
    assert direct.unfinished() == before
    assert send(url, b"late") == 404


def test_a_missing_part_is_named(direct: Site, tmp_path: Path) -> None:
    push = Push(direct, "lea", os.urandom(70 * MIB))
    path = f"/v2/imagefile/{push.image}/_multipart"
    begun = push.call("POST", path, {"filesize": 70 * MIB})["data"]
    listed = [{"partNumber": number, "token": '"x"'} for number in (1, 2)]
    said = {"uploadID": begun["uploadID"], "completedParts": listed}
    assert push.call("PUT", f"{path}_complete", said)["status"] == 409
    assert not push.is_visible()


def test_a_pull_is_sent_to_the_external_endpoint(direct: Site) -> None:
    push = Push(direct, "max", os.urandom(17))
    send(push.begin(sha256=""), push.content)
    push.complete()
    shown = direct.product.curl(
        "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}",
        f"{direct.product.base}/v1/imagefile/max/t/x:sha256.{push.sha256}",
    ).stdout  # fmt: skip
    status, _, location = shown.partition(" ")
    assert status == "303"
    assert location.startswith(f"http://localhost:{direct.seaweed.port}/direct/objects/")
    with urllib.request.urlopen(urllib.request.Request(location, headers={"Range": "bytes=5-7"})) as answer:
        assert (answer.status, answer.read()) == (206, push.content[5:8])
        assert answer.headers["content-range"] == f"bytes 5-7/{len(push.content)}"
        assert "x_sha256." in answer.headers["content-disposition"]


def test_a_client_without_a_token_gets_no_link(direct: Site) -> None:
    push = Push(direct, "ned", os.urandom(17))
    status, _ = direct.product.get(f"/v2/imagefile/{push.image}/_complete", method="PUT")
    assert status == 401
    with pytest.raises(ClientFailed):
        direct.product.library().run("pull", "ned/t/none:latest", direct.product.folder / "none")
