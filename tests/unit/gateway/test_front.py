"""Owns the proof of what the front door decides before any handler: who is turned away, and what they can read."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.errors import CoreDown, CoreRefused, NotFound
from gateway.front import FrontDoor, Handlers, Hidden, RouteHandler
from gateway.http.exchange import ClientExchange
from gateway.http.head import Field
from gateway.maintenance import MaintenanceAnswers, MaintenanceState, MaintenanceSwitch, Mode
from gateway.settings import Settings
from registry_core.routes.pages_assets import load_assets
from tests.support.fake_exchange import FakeExchange, make_head

ORIGIN = ("origin", "https://app.example")
FORM = [
    {"path": "/take", "action": "upload", "upstream": "http://127.0.0.1:1", "store": "/nowhere"},
    {"prefix": "/uploads/of-another", "upstream": "http://127.0.0.1:1"},
    {"prefix": "/done", "action": "hide"},
]


class Here(FakeExchange):
    """What the front door writes down beside the answer."""

    extra_fields: tuple[Field, ...] = ()
    route = ""
    error: Exception | None = None


class Anybody:
    """A handler that answers nothing; ``asked`` counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.error = error

    async def handle(self, exchange: ClientExchange, *_: object) -> None:
        """Count."""
        self.asked += 1
        if self.error is not None:
            raise self.error


def visited(
    tmp_path: Path,
    method: str,
    target: str,
    *fields: Field,
    mode: Mode | None = "full",
    handler: Anybody | None = None,
    routes: Sequence[object] = FORM,
    public_url: str = "https://example.org",
    **maintenance: object,
) -> tuple[Here, int]:
    """The exchange, and how many handlers were asked."""
    settings = Settings.model_validate(
        {
            "server": {
                "data_dir": tmp_path,
                "cors_origins": ["https://app.example"],
                "public_url": public_url,
            },
            "maintenance": maintenance,
            "routes": routes,
        }
    )
    anybody = handler or Anybody()
    handlers: Any = dict.fromkeys(("forward", "upload", "transfer", "blob", "status", "resumable"), anybody)
    handlers |= {"operations": anybody, "challenges": tmp_path}
    made = tuple(
        RouteHandler(route, Hidden() if route.action == "hide" else anybody) for route in settings.routes
    )
    switch = MaintenanceSwitch(tmp_path)
    switch.turn_off()
    if mode is not None:
        switch.turn_on(MaintenanceState(mode=mode, message="New disks."))
    front = FrontDoor(
        settings,
        Handlers(routes=made, **handlers),
        switch,
        MaintenanceAnswers(settings),
        redirects=False,
    )

    async def main() -> Here:
        exchange = Here(make_head(method, target, *fields))
        await front.handle(cast("ClientExchange", exchange))
        return exchange

    return asyncio.run(main()), anybody.asked


@pytest.mark.parametrize(
    ("mode", "method", "path", "is_let_in"),
    [
        ("uploads-off", "POST", "/take", False),
        ("uploads-off", "GET", "/take", True),
        ("uploads-off", "POST", "/uploads/of-another", True),  # not ours to say what that is
        ("uploads-off", "POST", "/uploads/", False),
        ("read-only", "POST", "/take", False),
        ("read-only", "PUT", "/uploads/of-another", False),
        ("read-only", "GET", "/uploads/of-another", True),
        ("full", "GET", "/uploads/of-another", False),
    ],
)
def test_routes_take_no_uploads_while_uploads_are_off(
    tmp_path: Path, mode: Mode, method: str, path: str, *, is_let_in: bool
) -> None:
    exchange, asked = visited(tmp_path, method, path, mode=mode)
    assert asked == is_let_in
    assert exchange.status == (0 if is_let_in else 503)


@pytest.mark.parametrize("mode", [None, "uploads-off", "read-only", "full"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/done"), ("GET", "/done/x"), ("GET", "/a/../%64one")])
def test_what_is_hidden_is_not_there_whatever_the_switch_says(
    tmp_path: Path, mode: Mode | None, method: str, path: str
) -> None:
    handler = Anybody()
    with pytest.raises(NotFound):
        visited(tmp_path, method, path, mode=mode, handler=handler)
    assert handler.asked == 0


def test_a_page_of_another_origin_can_read_why_its_upload_is_refused(tmp_path: Path) -> None:
    exchange, _ = visited(tmp_path, "POST", "/uploads", ORIGIN)
    assert exchange.status == 503
    assert ("access-control-allow-origin", "https://app.example") in exchange.extra_fields
    exposed = dict(exchange.extra_fields)["access-control-expose-headers"]
    assert "Retry-After" in exposed
    assert "X-Request-Id" in exposed


def test_an_origin_that_is_not_listed_reads_nothing(tmp_path: Path) -> None:
    exchange, _ = visited(tmp_path, "POST", "/uploads", ("origin", "https://evil.example"))
    assert "access-control-allow-origin" not in dict(exchange.extra_fields)


def test_the_question_before_a_cross_origin_upload_is_answered_during_maintenance(tmp_path: Path) -> None:
    asks = ("access-control-request-method", "POST")
    assert visited(tmp_path, "OPTIONS", "/uploads", ORIGIN, asks)[1] == 1
    for path, fields in (("/uploads", (ORIGIN,)), ("/upload", (ORIGIN, asks)), ("/uploads", (asks,))):
        assert visited(tmp_path, "OPTIONS", path, *fields)[0].status == 503


def test_the_files_of_a_page_of_ones_own_are_served_with_it(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "503.html").write_text("<link rel=stylesheet href=/maintenance/page.css>{{message}}")
    (own / "page.css").write_text("body{}")
    (own / "assets").mkdir()
    (own / "assets" / "logo.gif").write_bytes(b"GIF89a")
    style, _ = visited(tmp_path, "GET", "/maintenance/page.css", page=own)
    assert (style.status, style.content) == (200, b"body{}")
    for mode in ("full", None):
        logo, asked = visited(tmp_path, "GET", "/maintenance/assets/logo.gif", mode=mode, page=own)
        assert (logo.status, logo.content, asked) == (200, b"GIF89a", 0)
    assert visited(tmp_path, "POST", "/maintenance/page.css", page=own)[0].status == 503
    assert visited(tmp_path, "GET", "/maintenance/503.html", page=own)[0].status == 503


def test_an_upstream_that_is_left_alone_is_not_called_the_registry(tmp_path: Path) -> None:
    handler = Anybody(CoreDown("The notebook server rests."))
    exchange, _ = visited(tmp_path, "GET", "/uploads/of-another", mode=None, handler=handler)
    assert exchange.status == 503
    assert b"The notebook server rests." in exchange.content
    assert exchange.fields.get("retry-after")


def test_a_backend_that_is_down_is_not_called_the_registry_either(tmp_path: Path) -> None:
    for accept in ("text/html", "application/json"):
        exchange, _ = visited(
            tmp_path, "GET", "/uploads/of-another", ("accept", accept), mode=None, handler=Anybody(CoreDown())
        )
        assert exchange.status == 503
        assert exchange.fields.get("retry-after")
        assert b"The service behind this address does not answer at the moment." in exchange.content
        assert b"registry" not in exchange.content.replace(b"Singularity Registry", b"")
    core, _ = visited(tmp_path, "GET", "/collections", mode=None, handler=Anybody(CoreDown()))
    assert b"The registry is down for maintenance" in core.content


def test_the_version_of_a_backend_that_is_down_is_not_ours_to_tell(tmp_path: Path) -> None:
    routes = [{"prefix": "/", "upstream": "http://127.0.0.1:1"}]
    own = tmp_path / "own"
    own.mkdir()
    (own / "index.html").touch()
    (own / "page.css").write_text("body{}")
    for path, status in (("/version", 503), ("/maintenance/page.css", 200)):
        away = Anybody(CoreDown())
        exchange, _ = visited(tmp_path, "GET", path, mode=None, handler=away, routes=routes, page=own)
        assert exchange.status == status


UPLOAD_STATUS = "/v2/uploads/0123456789abcdef"


@pytest.mark.parametrize("mode", ["full", "read-only", "uploads-off", None])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_became_of_an_upload_is_told_whatever_is_closed(
    tmp_path: Path, mode: Mode | None, method: str
) -> None:
    assert visited(tmp_path, method, UPLOAD_STATUS, mode=mode)[1] == 1


def test_an_upload_that_nobody_knows_is_no_404_during_maintenance(tmp_path: Path) -> None:
    exchange, asked = visited(tmp_path, "GET", UPLOAD_STATUS, handler=Anybody(NotFound()))
    assert (asked, exchange.status) == (1, 503)
    assert b"New disks." in exchange.content
    assert visited(tmp_path, "DELETE", UPLOAD_STATUS)[1] == 0
    with pytest.raises(NotFound):
        visited(tmp_path, "GET", UPLOAD_STATUS, mode=None, handler=Anybody(NotFound()))


def test_what_the_core_said_against_an_upload_is_told_during_maintenance(tmp_path: Path) -> None:
    with pytest.raises(CoreRefused):
        visited(tmp_path, "GET", UPLOAD_STATUS, handler=Anybody(CoreRefused(403, "No.")))


def test_the_files_of_the_pages_are_answered_without_the_core(tmp_path: Path) -> None:
    icon = load_assets().url("icon.svg")
    for mode in (None, "read-only", "uploads-off"):
        exchange, asked = visited(tmp_path, "GET", icon, mode=mode, handler=Anybody(CoreDown()))
        assert (exchange.status, asked, exchange.route) == (200, 0, "static")
    assert visited(tmp_path, "GET", icon, mode="full")[0].status == 503
    assert visited(tmp_path, "POST", icon, mode=None)[1] == 1
    other = "/static/0123456789ab/icon.svg"  # of another version: the core knows
    assert visited(tmp_path, "GET", other, mode=None, handler=Anybody(CoreDown()))[0].status == 503


@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("www.reg.test", "https://reg.test/a?b"),
        ("www.reg.test.", "https://reg.test/a?b"),
        ("WWW.Reg.Test.:8443", "https://reg.test:8443/a?b"),
        ("reg.test", ""),
        ("reg.test.", ""),
        ("www.reg.test..", ""),
        ("www.other.test.", ""),
    ],
)
def test_www_leads_to_the_name_without_it_dot_at_the_end_or_not(
    tmp_path: Path, host: str, location: str
) -> None:
    exchange, asked = visited(
        tmp_path, "GET", "/a?b", ("host", host), mode=None, public_url="https://reg.test"
    )
    assert exchange.fields.get("location") == location
    assert asked == (not location)


def test_a_spool_lets_known_credentials_reach_the_uploads_in_full_maintenance(tmp_path: Path) -> None:
    sent = ("authorization", "Bearer t")
    for method, path, fields, is_let_in in (
        ("POST", "/upload", (sent,), True),
        ("POST", "/upload", (("cookie", "a=b"),), True),
        ("POST", "/upload", (), False),
        ("GET", "/upload", (sent,), False),
        ("PATCH", "/uploads/1", (sent,), True),
        ("GET", "/collections", (sent,), False),
        ("PUT", "/v2/transfers/x", (sent,), False),
        ("POST", "/take", (sent,), False),
    ):
        for spool in (True, False):
            _, asked = visited(tmp_path, method, path, *fields, spool=spool)
            assert asked == (is_let_in and spool), (method, path, spool)
        for mode in ("read-only", "uploads-off"):
            if method == "POST":
                assert visited(tmp_path, method, path, *fields, mode=mode, spool=True)[1] == 0


def test_whom_the_spool_does_not_know_reads_the_maintenances_own_message(tmp_path: Path) -> None:
    handler = Anybody(CoreDown())
    exchange, asked = visited(
        tmp_path, "POST", "/upload", ("authorization", "Bearer t"), handler=handler, spool=True
    )
    assert asked == 1
    assert exchange.status == 503
    assert b"New disks." in exchange.content
