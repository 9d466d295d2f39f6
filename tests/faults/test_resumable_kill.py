"""Owns the proof that resumable uploads outlive the death of what receives them, over all worker processes."""

import hashlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.product import Product, running_product

MIB: Final = 1 << 20
TUS: Final = {"Tus-Resumable": "1.0.0"}
BYTES: Final = {**TUS, "Content-Type": "application/offset+octet-stream"}
DATA: Final = b"".join(hashlib.sha256(bytes([n % 251, n // 251])).digest() * 1024 for n in range(72 * 32))
SHA: Final = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def plain(short_path: Path, request: pytest.FixtureRequest) -> Iterator[Product]:
    """A product that answers on its plain listener too."""
    settings = {
        "GATEWAY_TLS__REDIRECT": "false",
        "GATEWAY_SERVER__WORKERS": str(getattr(request, "param", 1)),
    }
    with running_product(short_path, settings=settings) as product:
        yield product


def ask(
    product: Product, method: str, target: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", product.http_port, timeout=30)
    try:
        connection.request(method, target, body=body or None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def make(product: Product, name: str) -> str:
    token = product.new_user(name)
    headers = {**TUS, "Authorization": f"Bearer {token}", "Upload-Length": str(len(DATA))}
    status, fields = ask(product, "POST", f"/uploads/?collection={name}/test&name=tool", headers)
    assert status == 201
    return fields["location"]


def begin_patch(product: Product, url: str, offset: int, body: bytes) -> socket.socket:
    """A PATCH that announces all that is missing, sends ``body`` and then stalls."""
    sender = socket.create_connection(("127.0.0.1", product.http_port))
    lines = {
        **BYTES,
        "Host": "localhost",
        "Upload-Offset": str(offset),
        "Content-Length": str(len(DATA) - offset),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    sender.sendall(f"PATCH {url} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return sender


def counted(product: Product, url: str) -> int:
    """The offset in the upload's file: what outlives the gateway."""
    path = product.data_dir / "resumable" / f"{url.rpartition('/')[2]}.json"
    return int(json.loads(path.read_text())["offset"])


def test_a_killed_gateway_goes_on_at_the_last_count_and_no_byte_is_wrong(plain: Product) -> None:
    url = make(plain, "kim")
    with begin_patch(plain, url, 0, DATA[: 70 * MIB]):
        deadline = time.monotonic() + 20
        while counted(plain, url) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        plain.kill()
    plain.start()
    status, fields = ask(plain, "HEAD", url, TUS)
    offset = int(fields["upload-offset"])
    assert status == 204
    assert offset >= 64 * MIB
    headers = {**BYTES, "Upload-Offset": str(offset)}
    status, fields = ask(plain, "PATCH", url, headers, DATA[offset:])
    assert (status, fields["image-digest"]) == (204, f"sha256:{SHA}")
    [blob] = plain.blob_files()
    with blob.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA


@pytest.mark.parametrize("plain", [3], indirect=True)
def test_a_stalled_request_in_any_worker_is_ended_by_a_newer_one_within_a_second(plain: Product) -> None:
    url = make(plain, "kit")
    offset = 0
    for step in range(8):  # connections spread over the workers
        with begin_patch(plain, url, offset, DATA[offset : offset + MIB]) as stalled:
            time.sleep(0.1)
            started = time.monotonic()
            status, fields = ask(plain, "HEAD", url, TUS)
            assert time.monotonic() - started < 1, f"step {step}"
            assert status == 204
            assert b" 409 " in stalled.recv(4096).partition(b"\r\n")[0]
            assert offset <= int(fields["upload-offset"]) <= offset + MIB
            offset = int(fields["upload-offset"])
    headers = {**BYTES, "Upload-Offset": str(offset)}
    status, fields = ask(plain, "PATCH", url, headers, DATA[offset:])
    assert (status, fields["image-digest"]) == (204, f"sha256:{SHA}")


def test_a_core_that_dies_before_the_end_learns_of_the_upload_later(plain: Product) -> None:
    url = make(plain, "kai")
    ask(plain, "PATCH", url, {**BYTES, "Upload-Offset": "0"}, DATA[:MIB])
    plain.kill_core()
    status, fields = ask(plain, "PATCH", url, {**BYTES, "Upload-Offset": str(MIB)}, DATA[MIB:])
    assert status == 204
    deadline = time.monotonic() + 20
    while "image-digest" not in fields and time.monotonic() < deadline:
        time.sleep(0.1)
        status, fields = ask(plain, "HEAD", url, TUS)
    assert fields["image-digest"] == f"sha256:{SHA}"
    assert fields["image-ref"].startswith("kai/test/tool")


@pytest.mark.parametrize("mode", ["full", "read-only", "uploads-off"])
def test_maintenance_stops_uploads_and_keeps_them(plain: Product, mode: str) -> None:
    url = make(plain, f"kay-{mode}")
    assert ask(plain, "PATCH", url, {**BYTES, "Upload-Offset": "0"}, DATA[:MIB])[0] == 204
    plain.run("gateway", "maintenance", "on", "--mode", mode)
    for method, headers in (
        ("PATCH", {**BYTES, "Upload-Offset": str(MIB)}),
        ("POST", {**BYTES, "Upload-Offset": str(MIB), "X-HTTP-Method-Override": "PATCH"}),
        ("DELETE", TUS),
    ):
        status, fields = ask(plain, method, url, headers, b"x")
        assert (status, "retry-after" in fields) == (503, True)
    plain.run("gateway", "maintenance", "off")
    status, fields = ask(plain, "PATCH", url, {**BYTES, "Upload-Offset": str(MIB)}, DATA[MIB:])
    assert (status, fields["image-digest"]) == (204, f"sha256:{SHA}")
