"""Owns the proof of ``gateway trace`` where images are in S3: refusals explained, uploads never harmed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.open_upload import OpenUpload
from tests.support.processes import memory_mib
from tests.support.product import Product, free_port, running_product
from tests.support.seaweed import ACCESS_KEY, Seaweed, running_seaweed
from tests.support.signing import Signer
from tests.support.tracing import tracing

MIB = 1 << 20


@contextmanager
def on_s3(folder: Path) -> Iterator[tuple[Product, Seaweed]]:
    """A product with its images in SeaweedFS."""
    (folder / "s3").mkdir()
    with running_seaweed(folder / "s3") as seaweed:
        settings = seaweed.environ
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
