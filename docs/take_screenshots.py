"""Owns the pictures in docs/screenshots: a registry with something in it, looked at by Chromium.

Run it as ``python -m docs.take_screenshots`` after a change of the pages, and look at what came out.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect

from tests.support.chromium import DESKTOP, PHONE, new_context, running_chromium, sign_in
from tests.support.product import Product, running_product
from tests.support.sif import make_sif, make_small_sif

FOLDER: Final = Path(__file__).parent / "screenshots"
_SETTINGS: Final = {
    "GATEWAY_REGISTRY__NAME": "Example HPC Registry",
    "GATEWAY_REGISTRY__CONTACT": "hpc-help@example.org",
    "GATEWAY_REGISTRY__ACCOUNTS": "open",
}
_DEFINITION: Final = """Bootstrap: docker
From: debian:12-slim

%labels
    maintainer Alice Example <alice@example.org>
    version 2.7.11b

%post
    apt-get update
    apt-get install -y --no-install-recommends rna-star samtools

%runscript
    exec STAR "$@"
"""
_LABELS: Final = {"maintainer": "Alice Example <alice@example.org>", "version": "2.7.11b"}
_STAR: Final = "/collections/alice/genomics/star"
_PAGES: Final = {
    "home": "/", "search": "/search?q=star", "collections": "/collections",
    "collection": "/collections/alice/genomics", "container": _STAR, "image": f"{_STAR}/2.7.11b",
    "tokens": "/tokens", "account": "/account", "admin": "/admin", "admin-users": "/admin/users",
    "admin-maintenance": "/admin/maintenance", "admin-audit": "/admin/audit", "error": "/collections/nobody/nothing",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A running registry with two people in it."""

    product: Product
    password: str

    def upload(self, token: str, ref: str, file: Path, description: str = "") -> None:
        """``ref`` is entity/collection/container:tag."""
        path, tag = ref.split(":")
        collection, name = path.rsplit("/", 1)
        self.product.curl(
            "-f", "-H", f"Authorization: Bearer {token}", "-F", f"name={name}", "-F", f"tag={tag}",
            "-F", f"description={description}", "-F", f"file=@{file}",
            f"{self.product.base}/upload?collection={collection}",
        )  # fmt: skip


def make_image(folder: Path, name: str, *, arm: bool = False) -> Path:
    """A small image with a definition file and labels."""
    image = make_small_sif(folder / f"{name}.sif", arch="arm64" if arm else "amd64", says=name)
    for kind, text in (("1", _DEFINITION), ("3", json.dumps(_LABELS))):
        part = folder / f"{name}.{kind}"
        part.write_text(text)
        add = ["siftool", "add", "--datatype", kind, "--groupid", "1", str(image), str(part)]
        subprocess.run(add, check=True, capture_output=True, stdin=subprocess.DEVNULL)  # noqa: S603
    return image


def fill(product: Product) -> Filled:
    """Something to look at."""
    filled = Filled(product=product, password=product.add_user("alice", admin=True))
    product.add_user("bob")
    alice, bob = product.token("alice"), product.token("bob")
    folder = product.folder
    about = "STAR aligner with samtools, built for the cluster's Debian 12"
    filled.upload(alice, "alice/genomics/star:2.7.10a", make_image(folder, "old"))
    for tag in ("2.7.11b", "latest"):
        for name in ("intel", "arm"):
            image = folder / f"{name}.sif"
            if not image.exists():
                make_image(folder, name, arm=name == "arm")
            filled.upload(alice, f"alice/genomics/star:{tag}", image, about)
    filled.upload(alice, "alice/genomics/bcftools:1.21", make_sif(folder / "b.sif", size_bytes=48 << 20))
    filled.upload(alice, "alice/drafts/prototype:latest", make_image(folder, "draft"))
    filled.upload(bob, "bob/teaching/r-course:2026", make_image(folder, "course"))
    return filled


def shoot(page: Page, name: str, size: str, *, whole: bool = True) -> None:
    """One picture; long pages are cut where a second screen would end."""
    width, height = (DESKTOP if size == "desktop" else PHONE) if size != "dark" else DESKTOP
    tall = min(page.evaluate("document.documentElement.scrollHeight"), height * 2) if whole else height
    clip = {"x": 0, "y": 0, "width": width, "height": max(tall, height)}
    page.screenshot(path=FOLDER / f"{name}-{size}.png", full_page=True, clip=clip)  # type: ignore[arg-type]


def shoot_uploads(page: Page, filled: Filled, size: str) -> None:
    """The upload page as it opens, and while two files are on their way."""
    base, folder = filled.product.base, filled.product.folder
    page.goto(f"{base}/upload")
    page.fill("#collection", "alice/genomics")
    shoot(page, "upload", size)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 12 << 20}
    session.send("Network.emulateNetworkConditions", limits)
    page.fill("#collection", "alice/uploads")
    page.set_input_files("#file", [str(folder / name) for name in ("old.sif", "b.sif", "draft.sif")])
    page.click("#send")
    expect(page.locator(".state").nth(1)).to_contain_text("/s", timeout=20_000)
    page.wait_for_timeout(1500)
    shoot(page, "uploading", size)
    session.send("Network.emulateNetworkConditions", limits | {"uploadThroughput": -1})
    expect(page.locator(".transfer.done")).to_have_count(3, timeout=30_000)
    session.detach()


def main() -> None:
    """All of them: on a desktop and a phone in light, and a few in the dark."""
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as folder,
        running_product(Path(folder), settings=_SETTINGS) as product,
        running_chromium() as browser,
    ):
        filled = fill(product)
        for size, dimensions in (("desktop", DESKTOP), ("phone", PHONE), ("dark", DESKTOP)):
            page = new_context(browser, size=dimensions, dark=size == "dark").new_page()
            for name in ("login", "signup") if size != "dark" else ():
                page.goto(f"{product.base}/{name}")
                shoot(page, name, size)
            sign_in(page, product.base, "alice", filled.password)
            if size == "desktop":
                page.goto(f"{product.base}/collections/alice/drafts")
                page.click("summary:has-text('Who may see it')")
                page.click("button:has-text('Make it private')")
            for name, path in _PAGES.items():
                if size == "dark" and name not in {"home", "image", "admin"}:
                    continue
                page.goto(product.base + path)
                shoot(page, name, size)
            if size != "dark":
                shoot_uploads(page, filled, size)


if __name__ == "__main__":
    main()
