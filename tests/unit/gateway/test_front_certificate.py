"""Owns the proof that the site stays closed while a self-signed certificate stands in, and what is open even then."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.front import FrontDoor, Handlers
from gateway.http.exchange import ClientExchange
from gateway.http.head import Field
from gateway.http.reply import Reply
from gateway.maintenance import MaintenanceAnswers, MaintenanceSwitch
from gateway.settings import Settings
from tests.support.fake_exchange import LOCAL_PEER, FakeExchange, make_head

BROWSER = ("accept", "text/html")


@dataclass
class StandIn:
    """A listener's certificate."""

    stands_in: bool = True


class Here(FakeExchange):
    """What the front door writes down beside the answer."""

    extra_fields: tuple[Field, ...] = ()
    route = ""
    closes = False

    async def reply(self, reply: Reply) -> None:
        self.closes = reply.closes
        await super().reply(reply)


@dataclass
class Door:
    """One listener of a gateway whose handlers count."""

    folder: Path
    certificate: StandIn | None = field(default_factory=StandIn)
    asked: int = 0

    async def handle(self, *_: object) -> None:
        self.asked += 1

    def visit(self, method: str, target: str, *fields: Field, address: str = LOCAL_PEER.address) -> Here:
        self.asked = 0
        settings = Settings.model_validate(
            {
                "server": {
                    "data_dir": self.folder,
                    "public_url": "https://example.org",
                    "admin_allow": ["192.0.2.99"],
                },
                "tls": {"mode": "acme", "hsts_s": 300},
                "maintenance": {"spool": True},
            }
        )
        names = ("forward", "upload", "transfer", "blob", "status", "resumable", "operations")
        handlers: Any = {**dict.fromkeys(names, self), "challenges": self.folder}
        front = FrontDoor(
            settings,
            Handlers(**handlers),
            MaintenanceSwitch(self.folder),
            MaintenanceAnswers(settings),
            redirects=False,
            certificate=self.certificate,
        )

        async def main() -> Here:
            peer = replace(LOCAL_PEER, address=address)
            exchange = Here(make_head(method, target, *fields), peer=peer)
            await front.handle(cast("ClientExchange", exchange))
            return exchange

        return asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GET", "/", ()),
        ("GET", "/login", ()),
        ("POST", "/upload", (("authorization", "Bearer t"),)),  # not for the spool, either
        ("PUT", "/v2/transfers/ticket", ()),
        ("GET", "/", (("host", "www.example.org"),)),  # no redirect that a browser keeps for ever
    ],
)
def test_programs_get_a_sentence_and_a_time(
    tmp_path: Path, method: str, target: str, fields: tuple[Field, ...]
) -> None:
    door = Door(tmp_path)
    answer = door.visit(method, target, *fields)
    assert (answer.status, door.asked, answer.route) == (503, 0, "maintenance")
    assert "certificate of this site is being ordered" in json.loads(answer.content)["error"]["message"]
    assert int(answer.fields.get("retry-after") or 0) > 0
    assert answer.extra_fields == (), "nobody is bound to https by a certificate of nobody"
    assert answer.closes, "the next request shall see the new certificate"


def test_browsers_get_the_page(tmp_path: Path) -> None:
    answer = Door(tmp_path).visit("GET", "/collections", BROWSER)
    assert answer.status == 503
    assert b"<html" in answer.content
    assert b"certificate of this site is being ordered" in answer.content


def test_a_download_in_ranges_is_cut_lest_the_page_become_a_part_of_it(tmp_path: Path) -> None:
    assert Door(tmp_path).visit("GET", "/v1/blobs/link", ("range", "bytes=0-9")).aborted


@pytest.mark.parametrize("target", ["/-/healthz", "/-/readyz", "/version", "/assets/config/config.prod.json"])
def test_what_machines_ask_is_answered_as_ever(tmp_path: Path, target: str) -> None:
    door = Door(tmp_path)
    door.visit("GET", target)
    assert door.asked == 1


def test_challenges_are_answered(tmp_path: Path) -> None:
    (tmp_path / "token-of-theirs").write_bytes(b"proof")
    answer = Door(tmp_path).visit("GET", "/.well-known/acme-challenge/token-of-theirs")
    assert (answer.status, answer.content) == (200, b"proof")


def test_who_passes_a_maintenance_passes_here(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.visit("GET", "/", address="192.0.2.99")
    assert door.asked == 1


def test_the_site_opens_as_soon_as_the_certificate_is_there(tmp_path: Path) -> None:
    certificate = StandIn()
    door = Door(tmp_path, certificate)
    assert door.visit("GET", "/").status == 503
    certificate.stands_in = False
    answer = door.visit("GET", "/")
    assert door.asked == 1
    assert answer.extra_fields == (("strict-transport-security", "max-age=300"),)


def test_a_listener_without_a_certificate_waits_for_none(tmp_path: Path) -> None:
    door = Door(tmp_path, certificate=None)
    door.visit("GET", "/")
    assert door.asked == 1
