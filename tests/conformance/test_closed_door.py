"""Owns what visitors of the running product get while something is closed or away: pages, files, states of uploads."""

import json
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.support.open_upload import OpenUpload
from tests.support.product import Product, free_port, running_product

SOON_S: Final = 30.0
BROWSER: Final = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SETTINGS: Final = """
[server]
public_url = "https://reg.test"

[[routes]]
prefix = "/notebooks"
upstream = "http://127.0.0.1:{nobody}"
max_fails = 0

[[routes]]
path = "/take"
action = "upload"
upstream = "http://127.0.0.1:{somebody}"
auth_url = "http://127.0.0.1:{nobody}/may-they"
store = "{folder}/taken"

[[routes]]
prefix = "/guarded"
upstream = "http://127.0.0.1:{somebody}"
auth_url = "http://127.0.0.1:{nobody}/may-they"
"""
PAGE: Final = (
    "<!doctype html><link rel=stylesheet href=/maintenance/assets/s.css><h1>{{ name }}</h1><p>{{message}}"
)


@pytest.fixture(scope="module")
def site() -> Iterator[Product]:
    """A product with a configuration folder: settings, and a page of one's own beside them."""
    with tempfile.TemporaryDirectory(prefix="gw-") as made, socket.create_server(("127.0.0.1", 0)) as accepts:
        folder = Path(made)
        file = folder / "etc" / "gateway.toml"
        own = file.parent / "maintenance"
        (own / "assets").mkdir(parents=True)
        (own / "index.html").write_text(PAGE)
        (own / "assets" / "s.css").write_text("h1{color:teal}")
        (own / "assets" / ".s.css").write_text("hidden")
        (own / "away.css").symlink_to(file)
        somebody = accepts.getsockname()[1]
        file.write_text(SETTINGS.format(nobody=free_port(), somebody=somebody, folder=folder))
        with running_product(folder, flags=("--config", str(file))) as product:
            yield product


@pytest.fixture(autouse=True)
def opened(site: Product) -> Iterator[None]:
    """Whatever a test did, the next one finds the registry open."""
    yield
    for name in ("maintenance.json", "maintenance.flag"):
        (site.data_dir / name).unlink(missing_ok=True)


@contextmanager
def closed(product: Product, *options: str) -> Iterator[None]:
    """Maintenance, for as long as it takes."""
    product.run("gateway", "maintenance", "on", *options)
    try:
        yield
    finally:
        product.run("gateway", "maintenance", "off")


@contextmanager
def core_away(product: Product) -> Iterator[None]:
    """The core hangs."""
    core = product.core_pid()
    os.kill(core, signal.SIGSTOP)
    try:
        wait_for(product, "/collections", 503)
        yield
    finally:
        os.kill(core, signal.SIGCONT)


def wait_for(product: Product, path: str, status: int) -> bytes:
    """Ask until this is the answer."""
    deadline = time.monotonic() + SOON_S
    while (answer := product.get(path))[0] != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer[1]


def ask(product: Product, path: str, *options: str) -> tuple[int, dict[str, str], str]:
    """curl: status, header fields, body."""
    said = product.curl("-i", *options, f"{product.base}{path}").stdout
    head, _, body = said.partition("\n\n" if "\r\n" not in said else "\r\n\r\n")
    first, *lines = head.splitlines()
    return (
        int(first.split()[1]),
        {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)},
        body,
    )


def test_the_flag_closes_at_once_and_leaves_the_plan(site: Product) -> None:
    flag = site.data_dir / "maintenance.flag"
    begin = f"{datetime.now(UTC) + timedelta(hours=2):%Y-%m-%dT%H:%MZ}"
    with closed(site, "--at", begin, "--mode", "read-only", "--message", "Planned."):
        assert site.get("/collections")[0] == 200
        flag.write_text("Power cut.")
        time.sleep(0.2)  # what the issue allows
        status, body = site.get("/collections")
        assert status == 503
        assert "Power cut." in json.loads(body)["error"]["message"]
        told = site.run("gateway", "maintenance", "status").stdout
        assert "maintenance is on: full" in told
        assert "planned: read-only" in told
        value = json.loads(site.run("gateway", "maintenance", "status", "--json").stdout)
        assert (value["on"], value["mode"], value["then"]["on"], value["then"]["mode"]) == (
            True, "full", False, "read-only",
        )  # fmt: skip
        flag.unlink()
        wait_for(site, "/collections", 200)
        assert "Planned." in site.get("/", headers=BROWSER)[1].decode()
        assert "planned: read-only" in site.run("gateway", "maintenance", "status").stdout


def test_a_page_beside_the_settings_is_shown_with_its_files(site: Product) -> None:
    with closed(site, "--message", "New disks."):
        status, page = site.get("/collections", headers=BROWSER)
        assert (status, page.decode()) == (
            503, PAGE.replace("{{ name }}", "Singularity Registry").replace("{{message}}", "New disks."),
        )  # fmt: skip
        status, fields, style = ask(site, "/maintenance/assets/s.css")
        assert (status, style) == (200, "h1{color:teal}")
        assert fields["content-type"] == "text/css; charset=utf-8"
        assert fields["x-content-type-options"] == "nosniff"
        for path in (
            "/maintenance/assets/.s.css",
            "/maintenance/away.css",
            "/maintenance/assets/../../gateway.toml",
            "/maintenance/assets/%2e%2e/%2e%2e/gateway.toml",
            "/maintenance/index.html",
            "/maintenance/assets",
        ):
            assert ask(site, path, "--path-as-is")[0] == 503, path
    assert ask(site, "/maintenance/assets/s.css")[0] == 200


def test_who_does_not_want_html_gets_none(site: Product) -> None:
    with closed(site, "--message", "New disks."):
        for accept, kind in (
            ("text/html;q=0, application/json", "application/json"),
            ("application/json, text/html;q=0.5", "application/json"),
            ("*/*", "application/json"),
            (BROWSER["Accept"], "text/html; charset=utf-8"),
            ("application/json;q=0.5, text/html", "text/html; charset=utf-8"),
        ):
            status, fields, _ = ask(site, "/collections", "-H", f"Accept: {accept}")
            assert (status, fields["content-type"]) == (503, kind), accept
    for accept, kind in (
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/html", "text/html"),
    ):
        status, fields, _ = ask(
            site, "/collections/nobody/none", "-H", f"Accept: {accept}"
        )  # the core's own answer
        assert (status, fields["content-type"].partition(";")[0]) == (404, kind)


def test_the_files_of_pages_go_on_while_the_core_is_away(site: Product) -> None:
    page = site.get("/", headers=BROWSER)[1].decode()
    files = sorted(set(re.findall(r"/static/[0-9a-f]+/[a-z.]+", page)))
    assert any(path.endswith(".svg") for path in files)
    with core_away(site):  # nobody asked for one of the files before
        for path in files:
            status, fields, body = ask(site, path)
            assert (status, bool(body)) == (200, True), path
            assert "immutable" in fields["cache-control"]
            assert ask(site, path, "-H", f"If-None-Match: {fields['etag']}")[0] == 304
            assert ask(site, path, "--head")[0] == 200
        assert site.get("/static/0123456789ab/icon.svg")[0] == 503
    with closed(site):
        assert site.get(files[0])[0] == 503
    with closed(site, "--mode", "read-only"):
        assert site.get(files[0])[0] == 200


def test_what_became_of_an_upload_is_told_while_all_is_closed(site: Product) -> None:
    path = _put_off(site)
    try:
        found = json.loads(wait_for(site, path, 200))
        assert found["data"]["images"][0]["ref"] == "ada/t/x:latest"
        assert site.get("/collections")[0] == 503
        status, body = site.get("/v2/uploads/0123456789abcdef0123")  # no 404: nobody may take that for final
        assert (status, "New disks." in body.decode()) == (503, True)
        assert site.get(path, method="DELETE")[0] == 503
    finally:
        site.run("gateway", "maintenance", "off")
    assert site.get("/v2/uploads/0123456789abcdef0123")[0] == 404


def _put_off(site: Product) -> str:
    """An upload that ended while the core was away and all was closed, which it still is: where its end is told."""
    token = site.new_user("ada")
    with OpenUpload(site, token=token, collection="ada/t", name="x", size_bytes=8 << 20) as upload:
        upload.send(4 << 20)
        deadline = time.monotonic() + SOON_S
        while not site.staging_files():  # from then on the core has allowed it
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with core_away(site):
            site.run("gateway", "maintenance", "on", "--message", "New disks.")
            status, body = upload.finish()
            assert status == 202
            path: str = json.loads(body)["data"]["url"]
            status, body = site.get(path)
            assert (status, json.loads(body)["data"]["status"]) == (202, "pending")
            assert site.get(path, method="HEAD")[0] == 202
            assert site.get("/collections")[0] == 503
    return path


@pytest.mark.parametrize("path", ["/notebooks/x", "/guarded/x"])
def test_a_backend_that_is_down_is_not_called_the_registry(site: Product, path: str) -> None:
    status, fields, body = ask(site, path)
    assert (status, int(fields["retry-after"]) > 0) == (503, True)
    assert json.loads(body)["error"]["message"] == (
        "The service behind this address does not answer at the moment. Try again in a moment."
    )
    status, _, body = ask(site, path, "-H", "Accept: text/html")
    assert status == 503
    assert "The service behind this address" in body
    assert "The registry" not in body


def test_an_upload_whose_question_nobody_answers_can_be_tried_again(site: Product) -> None:
    status, fields, body = ask(site, "/take", "-F", "file=@/etc/hostname")
    assert (status, "retry-after" in fields) == (503, True)
    assert "The service behind this address" in body
    shutil.rmtree(site.folder / "taken", ignore_errors=True)


def test_a_dot_at_the_end_of_the_host_is_the_same_host(site: Product) -> None:
    for host in ("www.reg.test", "www.reg.test.", "WWW.REG.TEST."):
        status, fields, _ = ask(site, "/collections?page=2", "-H", f"Host: {host}")
        assert (status, fields["location"]) == (308, "https://reg.test/collections?page=2")
        done = site.curl("-I", "-H", f"Host: {host}", f"{site.plain_base}/collections").stdout
        assert "308" in done.splitlines()[0]
        assert "location: https://reg.test" in done.lower()
    assert ask(site, "/collections", "-H", "Host: reg.test.")[0] == 200
