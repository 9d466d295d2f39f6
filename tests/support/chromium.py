"""Owns a real browser for tests: Debian's Chromium, driven by Playwright, with nothing but the product to talk to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PROGRAM: Final = "/usr/bin/chromium"
FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESKTOP: Final = (1200, 800)
PHONE: Final = (390, 844)


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """One browser process."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """What a browser found wrong: messages on its console, errors of scripts, requests to other places."""

    def __init__(self, page: Page, base: str) -> None:
        self.found: list[str] = []
        self._host = urlsplit(base).netloc
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("request", lambda request: self._look_at(request.url))

    def _note(self, kind: str, text: str) -> None:
        # An answer that is an error is a result here; the browser mentions each one.
        if kind in {"error", "warning"} and "Failed to load resource" not in text:
            self.found.append(f"{kind}: {text}")

    def _look_at(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != self._host:
            self.found.append(f"asked {url}")


def new_context(
    browser: Browser,
    *,
    size: tuple[int, int] = DESKTOP,
    dark: bool = False,
    scripts: bool = True,
) -> BrowserContext:
    """A browser without memory. The product's certificate comes from a CA of its own, which is fine here."""
    return browser.new_context(
        ignore_https_errors=True,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        locale="en-GB",
    )


def sign_in(page: Page, base: str, name: str, password: str) -> None:
    """By the form, as people do."""
    page.goto(f"{base}/login")
    page.fill("#name", name)
    page.fill("#password", password)
    page.click("main button")
    page.wait_for_url(f"{base}/")
