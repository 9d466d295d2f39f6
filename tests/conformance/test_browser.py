"""Owns the proof that people with a browser are served: sign in, upload with and without JavaScript, maintenance."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import chromium, visiting
from tests.support.product import Product
from tests.support.sif import make_small_sif


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def sif(tmp_path: Path) -> Path:
    return make_small_sif(tmp_path / "tool.sif", says=str(tmp_path))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_upload_shows_its_end_and_can_be_pulled(
    shared: Product, browser: Browser, sif: Path, tmp_path: Path
) -> None:
    password = shared.add_user("ada")
    with visiting(browser, shared) as visit:
        visit.sign_in("ada", password)
        visit.page.goto("/upload")
        visit.page.get_by_label("Collection").fill("ada/web")
        visit.page.get_by_label("Container").fill("tool")
        visit.page.get_by_label("Tag").fill("v1")
        visit.page.get_by_label("Image files").set_input_files(sif)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        link = visit.page.get_by_role("link", name="ada/web/tool:v1")
        link.click()
        expect(visit.page.get_by_role("main")).to_contain_text(_digest(sif)[:12])
        assert visit.complaints == []
        assert visit.strangers == []
    shared.library(shared.token("ada")).run("pull", "ada/web/tool:v1", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == sif.read_bytes()


def test_the_form_works_without_javascript(shared: Product, browser: Browser, sif: Path) -> None:
    password = shared.add_user("ben")
    with visiting(browser, shared, javascript=False) as visit:
        visit.sign_in("ben", password)
        visit.page.goto("/upload")
        visit.page.get_by_label("Collection").fill("ben/plain")
        visit.page.get_by_label("Container").fill("tool")
        visit.page.get_by_label("Image files").set_input_files(sif)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        visit.page.wait_for_url(re.compile("/collections/ben/plain/tool"))
        expect(visit.page.get_by_role("main")).to_contain_text(_digest(sif)[:12])


def test_several_files_each_show_their_own_result(shared: Product, browser: Browser, tmp_path: Path) -> None:
    password = shared.add_user("cleo")
    files = [make_small_sif(tmp_path / f"{name}.sif", says=name) for name in ("one", "two", "three")]
    with visiting(browser, shared) as visit:
        visit.sign_in("cleo", password)
        visit.page.goto("/upload")
        visit.page.get_by_label("Collection").fill("cleo/many")
        visit.page.get_by_label("Image files").set_input_files(files)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        for name in ("one", "two", "three"):
            visit.page.get_by_role("link", name=f"cleo/many/{name}:latest").wait_for()
        assert visit.complaints == []


def test_what_is_refused_is_told_on_the_page(shared: Product, browser: Browser, sif: Path) -> None:
    shared.add_user("dora")
    password = shared.add_user("emil")
    with visiting(browser, shared) as visit:
        visit.sign_in("emil", password)
        visit.page.goto("/upload")
        visit.page.get_by_label("Collection").fill("dora/private")
        visit.page.get_by_label("Image files").set_input_files(sif)
        visit.page.get_by_role("button", name="Upload", exact=True).click()
        visit.page.get_by_role("button", name=re.compile("again")).wait_for()
        assert visit.page.get_by_role("link", name="dora/private/").count() == 0


def test_a_form_of_another_site_cannot_upload(shared: Product, browser: Browser, sif: Path) -> None:
    """The cookie alone is not enough: the form's own token is missing."""
    password = shared.add_user("finn")
    with visiting(browser, shared) as visit:
        visit.sign_in("finn", password)
        forged = visit.page.request.post(
            "/upload?collection=finn/web",
            multipart={
                "file": {"name": "x.sif", "mimeType": "application/octet-stream", "buffer": sif.read_bytes()}
            },
        )
        assert forged.status == 403
    assert not [path for path in shared.blob_files() if _digest(sif) in path.name]


def test_every_page_is_whole_by_itself(shared: Product, browser: Browser, sif: Path) -> None:
    """No page asks anybody else for anything, and none complains."""
    password = shared.add_user("gina", admin=True)
    shared.library(shared.token("gina")).run("push", "gina/tools/tool", sif)
    with visiting(browser, shared) as visit:
        visit.sign_in("gina", password)
        for path in (
            "/", "/collections", "/collections/gina/tools", "/collections/gina/tools/tool", "/upload", "/tokens",
            "/account", "/admin",
        ):  # fmt: skip
            answer = visit.page.goto(path)
            assert answer is not None
            assert answer.status == 200, path
            expect(visit.page.locator("h1")).to_have_count(1)
        assert visit.complaints == []
        assert visit.strangers == []


def test_the_maintenance_page_is_shown_and_goes_away_by_itself(product: Product, browser: Browser) -> None:
    with visiting(browser, product) as visit:
        product.run("gateway", "maintenance", "on", "--message", "Back at 14:00 <b>sharp</b>")
        answer = visit.page.goto("/collections")
        assert answer is not None
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        expect(visit.page.locator("body")).to_contain_text("Back at 14:00 <b>sharp</b>")
        product.run("gateway", "maintenance", "off")
        # The page looks for the registry by itself and comes back without a hand.
        visit.page.get_by_role("navigation", name="Main").wait_for()
        assert visit.strangers == []
