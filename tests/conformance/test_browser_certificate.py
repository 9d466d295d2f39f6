"""Owns what people see of the certificate in a browser: the page before there is one, and the warning before it ends."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from tests.support.certificates import RsaChain, rsa_chain
from tests.support.chromium import PHONE, Complaints, new_context, running_chromium, sign_in
from tests.support.product import Product, running_product

NAME = "registry.example"
SOON_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


def write(folder: Path, certificate: RsaChain, key: RsaChain) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "chained.pem").write_bytes(certificate.chain)
    (folder / "domain.key").write_bytes(key.key)


def test_before_the_first_certificate_there_is_the_maintenance_page_and_then_the_site(
    browser: Browser, tmp_path: Path
) -> None:
    settings = {
        "GATEWAY_TLS__MODE": "acme",
        "GATEWAY_TLS__ACME_NAMES": NAME,
        "GATEWAY_TLS__ACME_DIRECTORY": "http://127.0.0.1:9/directory",  # nobody answers
        "GATEWAY_TLS__ACME_CHALLENGE": "tls-alpn-01",
    }
    made = rsa_chain([NAME, "localhost"])
    write(tmp_path / "bought", made, made)
    with running_product(tmp_path / "product", settings=settings, start=False) as product:
        product.ca = tmp_path / "root.pem"
        product.ca.write_bytes(made.root)
        product.start(wait=False)
        context = new_context(browser)
        page = context.new_page()
        wait_listening(page, product)
        expect(page.locator("body")).to_contain_text("The certificate of this site is being ordered")
        expect(page.locator("form")).to_have_count(0)
        product.run("gateway", "cert", "import", tmp_path / "bought")
        expect(page.get_by_role("link", name="Sign in").first).to_be_visible(timeout=SOON_MS)
        product.wait_ready()
        context.close()


def wait_listening(page: Page, product: Product) -> None:
    product_is_up = f"{product.plain_base}/-/healthz"
    for _ in range(600):
        try:
            if page.request.get(product_is_up).ok:
                break
        except Error:
            page.wait_for_timeout(100)
    page.goto(f"{product.base}/collections")


def test_the_administrators_page_warns_of_an_end_and_of_a_renewal_that_fails(
    browser: Browser, tmp_path: Path
) -> None:
    ends = datetime.now(UTC) + timedelta(days=10, hours=1)
    ending, other = rsa_chain(["localhost"], not_after=ends), rsa_chain(["localhost"])
    write(tmp_path, ending, ending)
    settings = {
        "GATEWAY_TLS__MODE": "files",
        "GATEWAY_TLS__CERTIFICATE": str(tmp_path / "chained.pem"),
        "GATEWAY_TLS__KEY": str(tmp_path / "domain.key"),
    }
    with running_product(tmp_path / "product", settings=settings, start=False) as product:
        product.ca = tmp_path / "root.pem"
        product.ca.write_bytes(ending.root)
        product.start()
        password = product.add_user("ann", admin=True)
        context = new_context(browser, size=PHONE)
        page = context.new_page()
        complaints = Complaints(page, product.base)
        sign_in(page, product.base, "ann", password)
        page.goto(f"{product.base}/admin")
        alert, section = page.get_by_role("alert"), page.locator("section", has=page.locator("#certificate"))
        expect(alert).to_contain_text("expires in less than 21 days")
        expect(section).to_contain_text("10 days left")
        expect(section).to_contain_text("yours to do")
        write(tmp_path, other, ending)
        while "is not the key of" not in section.inner_text():  # the page's own patience is the test's
            page.wait_for_timeout(500)
            page.reload()
        expect(section).to_contain_text("10 days left")
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), (
            "a long path must not widen the page"
        )
        context.close()
        assert complaints.found == []
