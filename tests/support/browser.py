"""Owns the browser of tests: Debian's Chromium, driven headless, with what it complained about and asked for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.product import Product

_FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Visit:
    """One person's browser window: the page, the console's complaints, the requests that left our origin."""

    def __init__(self, page: Page, product: Product) -> None:
        self.page: Final = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda asked: self._note(asked.url, product.base))

    def _note(self, url: str, base: str) -> None:
        if not url.startswith((base, "data:", "blob:")):
            self.strangers.append(url)

    def sign_in(self, name: str, password: str) -> None:
        """As a person does: by the form."""
        self.page.goto("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("main").get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium. Raises: RuntimeError when the machine has none."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("chromium is missing: run 'make test' as root, it installs what is needed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Browser, product: Product, *, javascript: bool = True) -> Iterator[Visit]:
    """A new window without cookies, on the product's origin."""
    context = browser.new_context(
        base_url=product.base, ignore_https_errors=True, java_script_enabled=javascript
    )
    context.set_default_timeout(20_000)
    try:
        yield Visit(context.new_page(), product)
    finally:
        context.close()
