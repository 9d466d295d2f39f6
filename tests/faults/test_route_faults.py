"""Owns what an upload route leaves behind when the gateway is killed or its disk is full: nothing."""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.upload.route_store import INCOMING
from tests.support.forms import form, part
from tests.support.route_site import FILE, GOOD, Site, read_answers, running_site, until
from tests.support.small_disk import small_disk

MIB = 1 << 20
LARGE = form(part(FILE, bytes(64 * MIB)))


@pytest.fixture
def disk(short_path: Path) -> Iterator[Path]:
    with small_disk(short_path / "disk", mib=16) as mount:
        yield mount


@pytest.fixture
def crowded(short_path: Path, disk: Path) -> Iterator[Site]:
    """Two routes on a small disk: one writes to its last byte, the other minds a reserve."""
    variants = {"brim": "reserve_bytes = 0", "reserve": f"reserve_bytes = {MIB}"}
    with running_site(short_path, variants, store=disk) as site:
        yield site


def test_killing_the_gateway_in_a_file_leaves_nothing_after_its_next_start(short_path: Path) -> None:
    with running_site(short_path, {"plain": ""}) as site:
        with site.begin("plain", f"Content-Length: {len(LARGE)}") as client:
            client.sendall(LARGE[: 20 * MIB])
            until(lambda: any(path.stat().st_size for path in site.stored()))
            site.product.kill()
        assert site.stored() != []  # or the sweep would have nothing to prove
        site.product.start()
        assert site.stored() == []
        assert site.product.staging_files() == []
        assert site.backend.forms() == []
        assert json.loads(site.send("-/uploads", b"", method="GET")[1]) == {"uploads": []}
        status, body = site.send("plain", GOOD)
        assert (status, json.loads(body)["file1.size"]) == (200, ["5"])


def test_kills_at_any_moment_leave_no_half_file_and_lose_none_that_the_backend_heard_of(
    short_path: Path,
) -> None:
    keeps = '\npass_to = "/app/kept"\nfile_fields = ["path", "size"]\n'
    with running_site(short_path, {"keep": keeps}, settings={"GATEWAY_SERVER__WORKERS": "2"}) as site:
        for moment_s in (0.3, 0.7, 1.1):
            over = threading.Event()
            clients = [threading.Thread(target=_upload_until, args=(site, over, seed)) for seed in range(6)]
            for client in clients:
                client.start()
            time.sleep(moment_s)
            site.product.kill()
            over.set()
            for client in clients:
                client.join()
            site.product.start()
            left = site.stored()
            assert [path for path in left if INCOMING in path.parts] == []
            told = {heard.fields["file1.path"][0]: heard.fields["file1.size"] for heard in site.backend.heard}
            stored = {str(path): [str(path.stat().st_size)] for path in left}
            assert told
            assert told.items() <= stored.items()


def _upload_until(site: Site, over: threading.Event, seed: int) -> None:
    chance = random.Random(seed)
    while not over.is_set():
        body = form(part(FILE, bytes(chance.choice([10, 10_000, 300_000, 9_000_000]))))
        try:
            site.send("keep", body if chance.random() < 0.5 else iter([body]))
        except (OSError, http.client.HTTPException):
            over.wait(0.01)


@pytest.mark.parametrize("route", ["brim", "reserve"])
def test_a_disk_that_is_full_in_the_middle_of_a_file_is_507_and_nothing_stays(
    crowded: Site, route: str
) -> None:
    other = "reserve" if route == "brim" else "brim"
    with crowded.begin(other, f"Content-Length: {len(GOOD)}") as neighbour:
        neighbour.sendall(GOOD[:-10])
        pieces = (LARGE[at : at + MIB] for at in range(0, len(LARGE), MIB))
        status, body = crowded.send(route, pieces)  # in chunks: nobody can know that it will not fit
        assert status == 507
        assert json.loads(body)["error"]["code"] == 507
        until(lambda: crowded.stored(route) == [])
        neighbour.sendall(GOOD[-10:])
        assert neighbour.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert [heard.fields["file1.size"] for heard in crowded.backend.forms()] == [["5"]]
    assert crowded.send(route, GOOD)[0] == 200


def test_what_cannot_fit_is_refused_before_its_first_byte(crowded: Site) -> None:
    with crowded.begin("reserve", f"Content-Length: {len(LARGE)}", "Expect: 100-continue") as client:
        assert read_answers(client).startswith(b"HTTP/1.1 507 ")
    assert crowded.stored() == []
