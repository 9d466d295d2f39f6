"""Owns the proof that HTTP/2 works for who asks for it: a browser and curl, on the product with ``server.http2``."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import chromium, visiting
from tests.support.product import Product, running_product
from tests.support.sif import make_small_sif


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    settings = {"GATEWAY_SERVER__HTTP2": "true"}
    with running_product(tmp_path_factory.mktemp("http2"), settings=settings) as running:
        yield running


def test_a_browser_uploads_over_http2(product: Product, tmp_path: Path) -> None:
    sif = make_small_sif(tmp_path / "tool.sif", says="http2")
    password = product.add_user("ada")
    with chromium() as browser, visiting(browser, product) as visit:
        visit.sign_in("ada", password)
        visit.page.goto("/upload")
        spoken = visit.page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        assert spoken == "h2"
        visit.page.get_by_label("Collection").fill("ada/web")
        visit.page.get_by_label("Container").fill("tool")
        visit.page.get_by_label("Tag").fill("v1")
        visit.page.get_by_label("Image files").set_input_files(sif)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        visit.page.get_by_role("link", name="ada/web/tool:v1").click()
        expect(visit.page.get_by_role("main")).to_contain_text(
            hashlib.sha256(sif.read_bytes()).hexdigest()[:12]
        )
        assert visit.complaints == []


@pytest.mark.parametrize(("flag", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_curl_uploads_by_the_version_that_it_asks_for(
    product: Product, tmp_path: Path, flag: str, version: str
) -> None:
    file = tmp_path / "image.sif"
    file.write_bytes(version.encode() * 3_000_000)
    token = product.new_user(f"curl{version[0]}")
    command = [
        "curl", "-sS", flag, "--cacert", str(product.ca), "-w", "\n%{http_version} %{http_code}",
        "-H", f"Authorization: Bearer {token}", "-F", f"file=@{file}",
        f"{product.base}/upload?collection=curl{version[0]}/test",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    answer, _, told = done.stdout.rpartition("\n")
    assert told == f"{version} 201"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in answer
