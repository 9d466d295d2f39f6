"""Owns what must hold of every page: safe headers, files that may be cached for ever, refusals that people can read."""

import re
from pathlib import Path
from typing import Final

import pytest

from registry_core.repo.database import DatabaseDown
from registry_core.routes import pages_words
from registry_core.routes.pages_assets import FOLDER, load_assets
from registry_core.routes.pages_frame import TEMPLATES
from registry_core.service import browse
from tests.support.core import Core
from tests.support.visitor import Visitor, add_person

PATHS: Final = (
    "/",
    "/search?q=tool",
    "/collections",
    "/login",
    "/upload",
    "/tokens",
    "/account",
    "/admin",
    "/nowhere",
)


@pytest.mark.parametrize("path", PATHS)
def test_every_page_forbids_what_it_does_not_need(core: Core, path: str) -> None:
    shown = add_person(core, "root", admin=True).get(path)
    policy = shown.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' https://registry.example" in policy
    assert "unsafe" not in policy
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["x-request-id"]


@pytest.mark.parametrize("path", PATHS)
def test_no_page_has_scripts_or_styles_of_its_own_or_asks_other_sites(core: Core, path: str) -> None:
    html = add_person(core, "root", admin=True).get(path).html
    if not html:
        return
    assert "<style" not in html
    assert not re.search(r"\sstyle=|\son[a-z]+=", html)
    assert all('src="/static/' in script for script in re.findall(r"<script[^>]*>", html))
    loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', html)
    assert loaded
    assert all(address.startswith("/static/") for address in loaded)


@pytest.mark.parametrize("path", PATHS)
def test_every_page_has_its_landmarks_a_title_and_names_for_its_fields(core: Core, path: str) -> None:
    html = add_person(core, "root", admin=True).get(path).html
    if not html:
        return
    for mark in (
        '<html lang="en">',
        'href="#main"',
        '<main id="main"',
        "<h1",
        "<header",
        'aria-label="Main"',
    ):
        assert html.count(mark) == 1, mark
    assert len(re.findall(r"<title>[^<]+</title>", html)) == 1
    labelled = set(re.findall(r'<label for="([^"]+)"', html))
    fields = re.findall(r"<(?:input|select|textarea)\b[^>]*>", html)
    for field in fields:
        if 'type="hidden"' in field or 'aria-hidden="true"' in field or 'type="checkbox"' in field:
            continue
        if 'type="radio"' in field:
            continue
        found = re.search(r'\bid="([^"]+)"', field)
        assert found
        assert found[1] in labelled, field
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_file_may_be_kept_for_ever_under_the_name_of_its_content(core: Core) -> None:
    visitor = Visitor(core)
    for address in re.findall(r'"(/static/[^"]+)"', visitor.get("/").html):
        answered = visitor.get(address)
        assert answered.status == 200
        assert "immutable" in answered.headers["cache-control"]
        assert answered.body == (FOLDER / Path(address).name).read_bytes()
        again = visitor.get(address, if_none_match=answered.headers["etag"])
        assert (again.status, again.body) == (304, b"")


def test_a_file_of_another_version_is_given_but_not_kept(core: Core) -> None:
    answered = Visitor(core).get("/static/000000000000/site.css")
    assert answered.status == 200
    assert answered.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["none.css", "..%2fpages.py", "%2e%2e", "site.css%00"])
def test_no_other_file_can_be_had(core: Core, name: str) -> None:
    assert Visitor(core).get(f"/static/{load_assets().version}/{name}").status == 404


def test_the_version_changes_with_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a")
    first = load_assets(tmp_path).version
    (tmp_path / "a.css").write_text("b")
    assert load_assets(tmp_path).version != first


def test_scripts_import_only_files_that_are_there(core: Core) -> None:
    for script in FOLDER.glob("*.js"):
        for name in re.findall(r'from "([^"]+)"', script.read_text()):
            assert name.startswith("./")
            assert (FOLDER / name).exists()


def test_browsers_get_a_page_and_programs_get_json(core: Core) -> None:
    visitor = Visitor(core)
    page = visitor.get("/nowhere")
    assert page.status == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-request-id"] in page.text
    for accept in ("*/*", "application/json", ""):
        answered = visitor.get("/nowhere", accept=accept)
        assert (answered.status, answered.headers["content-type"]) == (404, "application/json")
        assert answered.html.startswith('{"error":{"code":404')


def test_a_wrong_method_is_told_with_those_that_work(core: Core) -> None:
    answered = Visitor(core).request("DELETE", "/collections")
    assert answered.status == 405
    assert {"GET", "HEAD", "POST"} <= set(answered.headers["allow"].replace(" ", "").split(","))
    assert "<h1>" in answered.html


def test_a_form_that_is_too_large_or_no_form_is_refused(core: Core) -> None:
    alice = add_person(core, "alice")
    assert alice.post("/collections", name="x" * 70_000).status == 413
    assert alice.request("POST", "/collections", body=b"a=%ff%fe").status in (400, 403)
    assert (
        alice.request("POST", "/collections", body="&".join(f"a{n}=1" for n in range(60)).encode()).status
        == 400
    )


def test_a_database_that_is_down_is_told_on_a_page(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = add_person(core, "alice")

    def fail(*_: object, **__: object) -> None:
        raise DatabaseDown

    monkeypatch.setattr(browse, "home", fail)
    shown = alice.get("/")
    assert shown.status == 503
    assert "database cannot be used" in shown.text
    assert shown.headers["retry-after"] == "30"


def test_a_mistake_of_ours_is_told_on_a_page_without_its_details(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(browse, "home", fail)
    shown = Visitor(core).get("/")
    assert shown.status == 500
    assert "<h1>Something failed</h1>" in shown.html
    assert "secret detail" not in shown.html


def test_a_head_request_gets_no_body_and_no_mistake(core: Core) -> None:
    assert Visitor(core).request("HEAD", "/").status == 200


def test_every_template_is_used() -> None:
    source = "".join(path.read_text() for path in TEMPLATES.parent.rglob("*.py"))
    source += "".join(path.read_text() for path in TEMPLATES.iterdir())
    assert [path.name for path in TEMPLATES.iterdir() if f'"{path.name}"' not in source] == []


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (1000, "just now"), (941, "just now"), (940, "1 minute ago"), (1000 - 7200, "2 hours ago"),
        (1060, "in 1 minute"), (1000 + 3 * 86_400, "in 3 days"), (1030, "in a moment"),
    ],
)  # fmt: skip
def test_times_are_told_relative_to_now(at: int, told: str) -> None:
    assert f">{told}</time>" in pages_words.ago(at, 1000)


def test_the_exact_time_is_there_too() -> None:
    assert 'datetime="2027-01-15T08:00:00Z"' in pages_words.ago(1_800_000_000, 1_800_000_000)
    assert pages_words.ago(None, 0) == "never"


def test_sizes_and_counts_read_well() -> None:
    assert pages_words.size(1536) == '<span title="1,536 bytes">1.5 KiB</span>'
    assert pages_words.plural(1, "image") == "1 image"
    assert pages_words.plural(2000, "entity", "entities") == "2,000 entities"


def test_digests_are_shortened_and_still_there() -> None:
    assert pages_words.brief("a<b") == "a&lt;b"
    shown = pages_words.brief(f"x:sha256.{'ab' * 32}")
    assert ">x:sha256.abababababab…<" in shown
    assert "ab" * 32 in shown
