"""Owns what must hold of the pages in a real browser, with scripts and without, by mouse, keyboard and phone."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import PHONE, Complaints, new_context, running_chromium, sign_in
from tests.support.product import Product
from tests.support.sif import make_small_sif, write_random

PAGES: Final = (
    "/", "/search?q=tool", "/collections", "/collections/ann", "/collections/ann/pages",
    "/collections/ann/pages/tool", "/collections/ann/pages/tool/v1", "/upload", "/tokens", "/account", "/admin",
    "/admin/users", "/admin/maintenance", "/admin/audit", "/nowhere",
)  # fmt: skip
MIB: Final = 1 << 20

# Every text on the page with its colour on its ground: the contrast must be that of WCAG 2.1 AA.
_POOR_CONTRAST: Final = """() => {
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length === 3 ? [...v, 1] : v; };
  const light = (v) => { const c = v / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
  const groundOf = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const opacityOf = (element) => {
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    return opacity;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ground = groundOf(element);
    const ink = parse(style.color);
    ink[3] *= opacityOf(element);
    const [a, b] = [luminance(over(ink, ground)), luminance(ground)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Ann:
    """An administrator with an image."""

    password: str
    token: str
    image: Path


@pytest.fixture(scope="module")
def ann(shared: Product) -> Ann:
    password = shared.add_user("ann", admin=True)
    token = shared.token("ann")
    image = make_small_sif(shared.folder / "tool.sif")
    shared.curl(
        "-f", "-H", f"Authorization: Bearer {token}", "-F", "name=tool", "-F", "tag=v1", "-F", f"file=@{image}",
        f"{shared.base}/upload?collection=ann/pages",
    )  # fmt: skip
    return Ann(password=password, token=token, image=image)


@pytest.fixture
def page(browser: Browser, shared: Product, ann: Ann) -> Iterator[Page]:
    """A page of the signed-in ann; the test fails when the browser had to complain."""
    context = new_context(browser)
    opened = context.new_page()
    complaints = Complaints(opened, shared.base)
    sign_in(opened, shared.base, "ann", ann.password)
    yield opened
    context.close()
    assert complaints.found == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1200, 800), PHONE, (320, 640)], ids=["desktop", "phone", "small"])
def test_every_page_fits_is_legible_and_asks_nobody_else(
    browser: Browser, shared: Product, ann: Ann, size: tuple[int, int], dark: bool
) -> None:
    context = new_context(browser, size=size, dark=dark)
    page = context.new_page()
    complaints = Complaints(page, shared.base)
    sign_in(page, shared.base, "ann", ann.password)
    for path in PAGES:
        page.goto(shared.base + path)
        for panel in page.locator("details").all():
            panel.evaluate("panel => { panel.open = true; }")
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), f"{path} is too wide"
        assert page.evaluate(_POOR_CONTRAST) == [], path
    context.close()
    assert complaints.found == []


def test_the_keyboard_reaches_the_content_first(page: Page, shared: Product) -> None:
    page.goto(f"{shared.base}/collections")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def start_uploads(page: Page, shared: Product, *files: Path, **fields: str) -> None:
    page.goto(f"{shared.base}/upload")
    for name, value in {"collection": "ann/web", **fields}.items():
        page.fill(f"#{name}", value)
    page.set_input_files("#file", [str(file) for file in files])
    page.click("#send")


def test_several_files_arrive_whole_each_under_its_own_name(
    page: Page, shared: Product, ann: Ann, tmp_path: Path
) -> None:
    files = [write_random(tmp_path / f"File {n}.sif", 3 * MIB + n) for n in range(3)]
    start_uploads(page, shared, *files, tag="multi", name="ignored")
    expect(page.locator(".transfer.done")).to_have_count(3, timeout=30_000)
    for number, file in enumerate(files):
        link = page.locator(".transfer.done a").nth(number)
        expect(link).to_have_text(f"ann/web/file-{number}:multi")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert link.get_attribute("href") == f"/collections/ann/web/file-{number}/sha256.{digest}"
        status, body = shared.get(f"/v1/imagefile/ann/web/file-{number}:multi")
        assert (status, hashlib.sha256(body).hexdigest()) == (200, digest)
    page.locator(".transfer.done a").first.click()
    expect(page.locator("h1")).to_contain_text("file-0")


def slow_down(page: Page, bytes_per_s: int) -> Any:
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    session.send("Network.emulateNetworkConditions", limits)
    return session


def test_a_slow_upload_tells_how_far_it_is_and_can_be_cancelled_and_repeated(
    page: Page, shared: Product, tmp_path: Path
) -> None:
    file = write_random(tmp_path / "slow.sif", 12 * MIB)
    page.goto(f"{shared.base}/upload")
    session = slow_down(page, 2 * MIB)
    page.fill("#collection", "ann/web")
    page.set_input_files("#file", str(file))
    page.click("#send")
    state = page.locator(".transfer .state")
    expect(state).to_contain_text("MiB/s", timeout=20_000)
    expect(state).to_contain_text("of 12.0 MiB")
    expect(state).to_contain_text("left")
    assert 0 < float(page.locator("progress").evaluate("bar => bar.value")) < 1
    page.get_by_role("button", name="Cancel slow.sif").click()
    expect(state).to_have_text("Cancelled. Nothing was stored.")
    assert shared.get("/v1/images/ann/web/slow:latest")[0] == 404
    session.detach()
    page.get_by_role("button", name="Try slow.sif again").click()
    expect(page.locator(".transfer.done a")).to_have_text("ann/web/slow:latest", timeout=30_000)


def test_dropped_files_are_uploaded(page: Page, shared: Product) -> None:
    page.goto(f"{shared.base}/upload")
    page.fill("#collection", "ann/web")
    page.fill("#tag", "dropped")
    page.evaluate("""() => {
      const data = new DataTransfer();
      data.items.add(new File(["bytes that were dropped"], "dropped.sif"));
      for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
      }
    }""")
    expect(page.locator(".transfer.done a")).to_have_text("ann/web/dropped:dropped")


def test_a_refusal_is_told_in_its_own_words_before_any_byte(page: Page, shared: Product, ann: Ann) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    start_uploads(page, shared, ann.image, collection="no-slash")
    failed = page.locator(".transfer.failed .state")
    expect(failed).to_contain_text("must read entity/collection")
    assert f"POST {shared.base}/upload" not in sent
    expect(page.locator("#announce")).to_contain_text("must read entity/collection")


def test_without_scripts_the_form_uploads_and_leads_to_the_image(
    browser: Browser, shared: Product, ann: Ann
) -> None:
    context = new_context(browser, scripts=False)
    page = context.new_page()
    sign_in(page, shared.base, "ann", ann.password)
    start_uploads(
        page, shared, ann.image, collection="ann/plain", name="noscript", tag="v9", description="by hand"
    )
    page.wait_for_url("**/collections/ann/plain/noscript/sha256.*")
    expect(page.locator("h1")).to_contain_text("noscript")
    expect(page.locator("main")).to_contain_text("by hand")
    assert page.locator(".command button").count() == 0
    page.goto(f"{shared.base}/upload")
    page.fill("#tag", "not a tag")
    page.set_input_files("#file", str(ann.image))
    page.click("#send")
    expect(page.locator("body")).to_contain_text("cannot be a tag")
    context.close()


def test_the_download_button_saves_the_image(page: Page, shared: Product, ann: Ann) -> None:
    page.goto(f"{shared.base}/collections/ann/pages/tool/v1")
    with page.expect_download() as waiting:
        page.click("a[download]")
    saved = waiting.value
    assert saved.suggested_filename == "tool_v1.sif"
    assert Path(saved.path()).read_bytes() == ann.image.read_bytes()


def test_commands_are_copied(page: Page, shared: Product) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{shared.base}/collections/ann/pages/tool/v1")
    page.get_by_role("button", name="Copy: Apptainer").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"apptainer pull --library {shared.base} library://ann/pages/tool:v1"
    expect(page.get_by_role("button", name="Copy: Apptainer")).to_have_text("Copied")


def test_what_was_done_is_said_once(page: Page, shared: Product) -> None:
    page.goto(f"{shared.base}/collections/ann/pages")
    page.click("summary:has-text('Description')")
    page.fill("#description", "tools for pages")
    page.click("button:has-text('Save')")
    expect(page.get_by_role("status")).to_have_text("The collection is changed.")
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)


def test_the_administrator_sees_how_the_certificate_is(page: Page, shared: Product) -> None:
    page.goto(f"{shared.base}/admin")
    shown = page.locator("section", has=page.get_by_role("heading", name="Certificate"))
    expect(shown).to_contain_text("localhost")
    expect(shown).to_contain_text("days left")
    expect(shown).to_contain_text("Next renewal")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_switch_closes_the_registry_and_the_page_comes_back(
    page: Page, shared: Product, ann: Ann
) -> None:
    page.goto(f"{shared.base}/admin/maintenance")
    page.check("input[value=full]")
    page.fill("#message", "New disks until noon.")
    page.fill("#allow", "203.0.113.1")
    page.click("button:has-text('Begin the maintenance')")
    expect(page.locator("body")).to_contain_text("New disks until noon.")
    assert shared.get("/collections")[0] == 503
    shared.run("gateway", "maintenance", "off")
    expect(page.locator("body")).to_contain_text("The registry is open", timeout=30_000)


def test_a_planned_maintenance_is_announced_before_it_begins(page: Page, shared: Product, ann: Ann) -> None:
    begin = (datetime.now(UTC) + timedelta(hours=2)).replace(second=0, microsecond=0)
    page.goto(f"{shared.base}/admin/maintenance")
    page.check("input[value=full]")
    page.fill("#message", "Moving to faster disks.")
    page.fill("#at", f"{begin:%Y-%m-%dT%H:%M}")
    page.select_option("#hours", "1")
    page.click("button:has-text('Begin the maintenance')")
    expect(page.get_by_role("status")).to_contain_text("The maintenance is planned")
    for path in ("/", "/collections", "/upload"):
        page.goto(f"{shared.base}{path}")
        banner = page.get_by_role("complementary", name="Maintenance")
        expect(banner).to_contain_text(f"Maintenance from {begin:%Y-%m-%d %H:%M} UTC to")
        expect(banner).to_contain_text("Moving to faster disks.")
    assert shared.get("/collections")[0] == 200
    assert "planned: full" in shared.run("gateway", "maintenance", "status").stdout
    shared.run("gateway", "maintenance", "off")
    page.reload()
    expect(page.get_by_role("complementary", name="Maintenance")).to_have_count(0)


def test_a_form_that_meets_the_maintenance_is_sent_once(page: Page, shared: Product, ann: Ann) -> None:
    page.context.clear_cookies()
    page.goto(f"{shared.base}/login")
    shared.run("gateway", "maintenance", "on", "--message", "New disks.")
    try:
        page.fill("input[name=name]", "somebody")
        page.fill("input[name=password]", "a password of theirs")
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        expect(page.locator("body")).to_contain_text("Nothing of what you sent was kept")
        sent = shared.log_text.count("POST /login 503")
        page.wait_for_timeout(5_000)  # the page of a GET would have looked again twice
        assert shared.log_text.count("POST /login 503") == sent == 1
        assert page.locator("meta[http-equiv=refresh]").count() == 0
    finally:
        shared.run("gateway", "maintenance", "off")
