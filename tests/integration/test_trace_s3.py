"""Owns the proof of ``gateway trace`` where images are in S3: refusals explained, uploads never harmed."""

import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from tests.support.open_upload import OpenUpload
from tests.support.processes import memory_mib
from tests.support.product import Product, free_port, running_product
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, running_seaweed
from tests.support.signing import Signer
from tests.support.tracing import PATIENCE_S, tracing
from tests.support.wire_push import WireAnswer, WireClient

MIB = 1 << 20


@contextmanager
def on_s3(folder: Path, **more: str) -> Iterator[tuple[Product, Seaweed]]:
    """A product with its images in SeaweedFS; ``more`` are settings for its environment."""
    (folder / "s3").mkdir()
    with running_seaweed(folder / "s3") as seaweed:
        settings = {**seaweed.environ, **more}
        with running_product(folder, settings=settings) as product:
            yield product, seaweed


@pytest.mark.slow
def test_a_wrong_secret_key_is_explained_of_clients_and_of_the_gateway_as_it_happens(
    short_path: Path,
) -> None:
    with on_s3(short_path) as (product, seaweed):
        token = product.new_user("ada")
        door = f"127.0.0.1:{free_port()}"
        with tracing(product, "--inspect", "s3", "--listen", door) as trace:
            # A client of presigned URLs, led through: it sends the host that was signed.
            signer = Signer(access_key=ACCESS_KEY, secret_key="not it", host=seaweed.endpoint)
            request = signer.query("GET", "/images/x")
            connection = HTTPConnection(door, timeout=30)
            connection.request("GET", request.target, headers=dict(request.fields))
            assert connection.getresponse().status == 403
            connection.close()
            assert trace.next()["why"][0].startswith("The secret key or the host that was signed differs:")
            trace.end()
        seaweed.stop()
        seaweed.accept_keys((ACCESS_KEY, "changed by somebody"))
        seaweed.start()
        with tracing(product, "--status", "403") as trace:
            with OpenUpload(product, token=token, collection="ada/t", name="x", size_bytes=MIB) as upload:
                status, _ = upload.finish_or_answer()
            assert status == 503
            story = trace.next()
            assert trace.end() == 0
    assert (story["method"], story["status"]) == ("POST", 503)
    asked, *put = (hop for hop in story["hops"] if hop["hop"] == "s3")
    assert asked["method"] == "HEAD"  # the answer to HEAD has no body to say why
    assert "without a reason" in asked["why"][0]
    assert (put[-1]["status"], put[-1]["error"]) == (403, "SignatureDoesNotMatch")
    assert {hop["id"] for hop in story["hops"]} == {story["id"]}
    assert put[-1]["why"] == [
        "The signature is right for the keys in the settings, and the server refuses it (SignatureDoesNotMatch):"
        " it knows another secret key, or does not know this access key."
    ]


@pytest.mark.slow
def test_an_upload_and_a_download_pass_mitmproxy_in_flat_memory_and_survive_ctrl_c(short_path: Path) -> None:
    with on_s3(short_path) as (product, _):
        token = product.new_user("ada")
        with (
            OpenUpload(product, token=token, collection="ada/t", name="x", size_bytes=200 * MIB) as upload,
            tracing(product, "--inspect", "s3") as trace,
        ):
            before = memory_mib(trace.pid, peak=True)
            upload.send(150 * MIB)
            trace.interrupt()
            status, body = upload.finish()
            assert status == 201, body
            assert trace.wait() == 0
        with tracing(product, "--inspect", "s3") as trace:
            got = short_path / "got.sif"
            product.curl(
                "--location", "-H", f"Authorization: Bearer {token}", "--output", got,
                f"{product.base}/v1/imagefile/ada/t/x:latest?arch=amd64",
            )  # fmt: skip
            story = trace.next()
            while not (read := [hop for hop in story.get("hops", ()) if hop.get("bytes_in", 0) >= 200 * MIB]):
                story = trace.next()
            grown = memory_mib(trace.pid, peak=True) - before
            assert trace.end() == 0
        assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(upload.content).digest()
    assert ("s3", "GET") in {(hop["hop"], hop["method"]) for hop in read}
    assert grown < 80


def push_directly(client: WireClient, name: str, content: bytes) -> WireAnswer:
    """A push whose bytes go to S3 without us; what its end is answered."""
    image = client.begin_image("ada", "t", name, content)
    url = client.offer(image, content)
    digest = hashlib.sha256(content).hexdigest()
    file = written(client.product.folder / name, content)
    assert not client.product.curl("-T", file, "-H", f"x-amz-content-sha256: {digest}", url).stdout
    return client.call("PUT", f"/v2/imagefile/{image}/_complete", {})


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--inspect", "all")])
def test_what_the_core_does_in_s3_for_direct_clients_is_seen_under_their_requests(
    short_path: Path, words: tuple[str, ...]
) -> None:
    content = bytes(range(256)) * 4 * 1024
    with on_s3(short_path, GATEWAY_STORAGE__S3__DIRECT="true") as (product, seaweed):
        client = WireClient(product=product, token=product.new_user("ada"))
        with tracing(product, *words) as trace:
            assert push_directly(client, "x", content).status == 200
            begun = trace.next()
            while not begun["target"].startswith("/v2/imagefile/"):
                begun = trace.next()
            ended = trace.next()
            while not ended["target"].endswith("/_complete"):
                ended = trace.next()
            assert trace.end() == 0
        assert ("POST", 200) in calls(begun)  # a multipart upload is started for the link
        assert {hop["id"] for hop in (*begun["hops"], *ended["hops"])} == {begun["id"], ended["id"]}
        assert [call for call in calls(ended) if call[0] == "POST"] == [("POST", 200)]  # and completed
        read_back = [hop["bytes_in"] for hop in ended["hops"] if (hop["hop"], hop["method"]) == ("s3", "GET")]
        assert len(content) in read_back
        assert not any("why" in hop for hop in (*begun["hops"], *ended["hops"]))
        if words:
            return
        seaweed.stop()
        seaweed.accept_keys((ACCESS_KEY, "changed by somebody"))
        seaweed.start()
        with tracing(product, "--status", "403") as trace:
            image = client.begin_image("ada", "t", "y", content + b"1")
            assert client.call("POST", f"/v2/imagefile/{image}", {"filesize": 5}).status == 503
            story = trace.next()
            assert trace.end() == 0
    refused = next(hop for hop in story["hops"] if hop["status"] == 403 and hop["error"])
    assert (refused["hop"], refused["error"]) == ("s3", "SignatureDoesNotMatch")
    assert (
        "The signature is right for the keys in the settings, and the server refuses it" in refused["why"][0]
    )


def calls(story: dict[str, Any]) -> list[tuple[str, int]]:
    """What was asked of S3 for a request, and how it was answered."""
    return [(hop["method"], hop["status"]) for hop in story["hops"] if hop["hop"] == "s3"]


@pytest.mark.slow
def test_nothing_is_said_of_normal_traffic(short_path: Path) -> None:
    """Of ours, of the minio SDK, of rclone, of curl: none of what they sign is wrong."""
    content = b"an object" * 100_000
    with on_s3(short_path) as (product, seaweed):
        token = product.new_user("ada")
        door = f"127.0.0.1:{free_port()}"
        with tracing(product, "--inspect", "s3", "--listen", door) as trace:
            with OpenUpload(
                product, token=token, collection="ada/t", name="x", size_bytes=40 * MIB
            ) as upload:
                assert upload.finish()[0] == 201
            sdk = Minio(door, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)
            sdk.put_object("images", "sdk: a+b/ü~(1)", io.BytesIO(content), len(content))
            sdk.put_object(
                "images", "sdk/multi", io.BytesIO(content * 8), len(content) * 8, part_size=5 * MIB
            )
            with sdk.get_object("images", "sdk/multi") as got:
                assert got.read() == content * 8
            assert len(list(sdk.list_objects("images", prefix="sdk", recursive=True))) == 2
            sdk.stat_object("images", "sdk/multi")
            urls = Signer(access_key=ACCESS_KEY, secret_key=SECRET_KEY, host=seaweed.endpoint)
            put = urls.query("PUT", "/images/curl/presigned")
            file = written(short_path / "object", content)
            product.curl("-T", file, "-H", f"Host: {seaweed.endpoint}", f"http://{door}{put.target}")
            signed = ("--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{ACCESS_KEY}:{SECRET_KEY}")
            product.curl(*signed, "-T", file, f"http://{door}/images/curl/signed")
            assert product.curl(*signed, f"http://{door}/images/curl/signed").stdout == content.decode()
            if shutil.which("rclone"):
                rclone(door, written(short_path / "larger", content * 10))
            sdk.remove_object("images", "sdk/multi")
            heard: list[dict[str, Any]] = []
            while not heard or (heard[-1]["method"], heard[-1]["target"]) != ("DELETE", "/images/sdk/multi"):
                heard.append(trace.next())
            assert trace.end() == 0
    hops = [hop for story in heard for hop in (story, *story.get("hops", ())) if hop.get("hop") == "s3"]
    assert {hop["status"] for hop in hops} <= {200, 204, 206, 404, 409}
    assert len(hops) > 30
    assert [(hop["target"], hop["why"]) for hop in hops if "why" in hop] == []


def rclone(door: str, file: Path) -> None:
    """A file in parts, a listing and a read by rclone, as a user of MinIO would."""
    settings = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_S3_PROVIDER": "Minio",
        "RCLONE_S3_ENDPOINT": f"http://{door}",
        "RCLONE_S3_ACCESS_KEY_ID": ACCESS_KEY,
        "RCLONE_S3_SECRET_ACCESS_KEY": SECRET_KEY,
        "RCLONE_S3_CHUNK_SIZE": "5Mi",
        "RCLONE_S3_UPLOAD_CUTOFF": "5Mi",
    }
    copied = f":s3:images/rclone/{file.name}"
    for words in (("copyto", str(file), copied), ("lsl", ":s3:images"), ("cat", copied)):
        subprocess.run(
            ["rclone", *words],
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
            env={"PATH": os.environ["PATH"], "HOME": str(file.parent), **settings},
        )


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file
