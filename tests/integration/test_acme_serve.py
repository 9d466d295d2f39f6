"""`gateway serve` with tls.mode = "acme" and `gateway cert`, against a strict Pebble that rejects every third nonce."""

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.contract_certificate import CERTIFICATE_REPORT, CertificateReport, parse_certificate_report
from tests.support.acme_door import NAMES, anyone
from tests.support.pebble import Pebble, running_pebble
from tests.support.product import Product, ProductFailed, free_port, running_product

RELUCTANT: Final = {"PEBBLE_WFE_NONCEREJECT": "30", "PEBBLE_AUTHZREUSE": "0"}
RATE: Final = 100  # requests per second while the certificate changes
SOON_S: Final = 120.0
TRIES: Final = 12  # so many that each of two workers is met


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    fields: dict[str, str]
    body: str


@dataclass(kw_only=True)
class Scene:
    """A product and the ports by which its authority is reached, and reaches it."""

    folder: Path
    product: Product
    settings: dict[str, str]
    api_port: int = field(default_factory=free_port)

    @contextmanager
    def authority(self, *, reaches_us: bool = True, **environment: str) -> Iterator[Pebble]:
        """Pebble; its directory is the product's from now on."""
        http, tls = self.product.http_port, self.product.https_port
        with running_pebble(
            self.folder / "pebble",
            http_port=http if reaches_us else free_port(),
            tls_port=tls if reaches_us else free_port(),
            api_port=self.api_port,
            environment={**RELUCTANT, **environment},
        ) as pebble:
            known = self.folder / "known.pem"
            known.write_bytes(pebble.ca_file.read_bytes() + pebble.root())
            self.settings |= {
                "GATEWAY_TLS__ACME_DIRECTORY": pebble.directory,
                "GATEWAY_TLS__ACME_CA_FILE": str(known),
            }
            yield pebble

    @property
    def orders(self) -> int:
        """How many orders Pebble took since the beginning; requests with a nonce that it rejects are none."""
        return (self.folder / "pebble" / "pebble.log").read_text().count("Added order ")

    def start(self) -> None:
        """Serve; returns when core and store are usable, whatever the certificate."""
        self.product.start(wait=False)
        url = f"{self.product.plain_base}/-/readyz"
        eventually(lambda: status_of(url) == 200, self.product)

    def cert(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A `gateway cert` command beside the running gateway."""
        return self.product.run("gateway", "cert", *words, check=False)

    def renew(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`gateway cert renew`; again when the gateway itself has a turn just then."""
        done = self.cert("renew", *words)
        while "Another process" in done.stderr:
            time.sleep(0.2)
            done = self.cert("renew", *words)
        return done

    def status(self) -> dict[str, Any]:
        """What `gateway cert status` says."""
        said: dict[str, Any] = json.loads(self.cert("status", "--json").stdout)
        return said

    async def leaf(self, context: ssl.SSLContext, name: str = NAMES[0]) -> bytes:
        """One request over a new connection; the certificate that was presented."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.product.https_port, ssl=context, server_hostname=name
        )
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(f"GET /-/healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b'{"status":"ok"}'):
            raise AssertionError(answer)
        return shown

    def ask(self, context: ssl.SSLContext, target: str, **fields: str) -> Answer:
        """One request over a new TLS connection, for whichever page."""
        with (
            socket.create_connection(("127.0.0.1", self.product.https_port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=NAMES[0]) as secure,
        ):
            lines = [f"GET {target} HTTP/1.1", f"Host: {NAMES[0]}", *(f"{k}: {v}" for k, v in fields.items())]
            secure.sendall("\r\n".join([*lines, "", ""]).encode())
            said = http.client.HTTPResponse(secure)
            said.begin()
            return Answer(status=said.status, fields=dict(said.headers), body=said.read().decode())

    def told(self) -> CertificateReport:
        """What the gateway tells the administrator's page."""
        return parse_certificate_report((self.product.data_dir / "run" / CERTIFICATE_REPORT).read_bytes())

    def shown(self, context: ssl.SSLContext, name: str = NAMES[0]) -> bytes:
        """The same, for who does not wait for anything else."""
        return asyncio.run(self.leaf(context, name))


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code
    except OSError:
        return 0


def eventually(condition: Any, product: Product) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > deadline:
            raise ProductFailed(f"it did not come about\n{product.log_text}")
        time.sleep(0.1)


def trusting(pebble: Pebble) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pebble.root().decode())


@contextmanager
def scene(folder: Path, **settings: str) -> Iterator[Scene]:
    given = {
        "GATEWAY_TLS__MODE": "acme",
        "GATEWAY_TLS__ACME_EMAIL": f"admin@{NAMES[0]}",
        "GATEWAY_SERVER__PUBLIC_URL": f"https://{NAMES[0]}",
        "GATEWAY_SERVER__SERVER_NAMES": ",".join(NAMES),
        **settings,
    }
    with running_product(folder / "product", settings=given, start=False) as product:
        yield Scene(folder=folder, product=product, settings=given)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


class Visitors:
    """New connections at a fixed rate, each with one request that verifies the certificate."""

    def __init__(self, place: Scene, context: ssl.SSLContext) -> None:
        self._place = place
        self._context = context
        self.leaves: list[bytes] = []
        self.failures: list[BaseException] = []

    async def _visit(self, number: int) -> None:
        try:
            self.leaves.append(await self._place.leaf(self._context, NAMES[number % 2]))
        except (OSError, ssl.SSLError, AssertionError) as exc:
            self.failures.append(exc)

    async def come(self, stop: asyncio.Event) -> None:
        """Until told to stop; waits for the last ones."""
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                while number < (loop.time() - began) * RATE:
                    group.create_task(self._visit(number))
                    number += 1
                await asyncio.sleep(0.01)


async def renew_under_load(place: Scene, context: ssl.SSLContext) -> Visitors:
    """`gateway cert renew` while visitors come; the new certificate has been seen by many of them at the end."""
    visitors, stop = Visitors(place, context), asyncio.Event()
    before = await place.leaf(context)
    coming = asyncio.create_task(visitors.come(stop))
    await asyncio.sleep(1)
    renewed = await asyncio.to_thread(place.renew, "--force")
    assert renewed.returncode == 0, renewed.stderr
    async with asyncio.timeout(SOON_S):
        while before in [await place.leaf(context) for _ in range(TRIES)]:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    stop.set()
    await coming
    return visitors


@pytest.mark.parametrize(
    ("challenge", "workers"), [("http-01", "1"), ("tls-alpn-01", "1"), ("tls-alpn-01", "2")]
)
def test_two_names_are_issued_for_and_renewed_while_a_hundred_requests_a_second_come(
    challenge: str, workers: str, tmp_path: Path
) -> None:
    settings = {"GATEWAY_TLS__ACME_CHALLENGE": challenge, "GATEWAY_SERVER__WORKERS": workers}
    with scene(tmp_path, **settings) as place:
        with place.authority() as pebble:
            place.start()
            eventually(lambda: set(place.status().get("names", ())) == set(NAMES), place.product)
            context = trusting(pebble)
            eventually(lambda: verifies(place, context), place.product)
            for name in NAMES:
                place.shown(context, name)
            for _ in range(TRIES):  # each worker has opened the site by itself
                assert place.ask(context, "/").status == 200
            status = place.status()
            assert (status["chain_complete"], status["self_signed"], status["last_error"]) == (
                True,
                False,
                "",
            )
            orders, early = place.orders, place.renew()
            assert (early.returncode, place.orders) == (0, orders), "it is not time yet"
            visitors = asyncio.run(renew_under_load(place, context))
            said = f"{challenge}, {workers} workers: {len(visitors.leaves)} requests, {len(visitors.failures)} failed"
            print(said)
            assert visitors.failures == []
            assert len(set(visitors.leaves)) == 2, "visitors saw the old certificate and the new one"
            assert len(visitors.leaves) > RATE
            assert place.orders > orders
        failed = place.renew("--force")
        assert failed.returncode == 1
        assert "cannot be reached" in failed.stderr
        assert place.shown(context) == visitors.leaves[-1], "the working certificate stays"
        assert "cannot be reached" in place.status()["last_error"]


def verifies(place: Scene, context: ssl.SSLContext) -> bool:
    try:
        for _ in range(TRIES):
            place.shown(context)
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_refused_order_is_told_and_rests_over_a_restart_until_it_is_mended(place: Scene) -> None:
    with place.authority(reaches_us=False):
        place.start()
        eventually(lambda: "could not verify" in place.status()["last_error"], place.product)
        stand_in = place.shown(anyone())
        status = place.cert("status")
        assert status.returncode == 1
        assert "port 80" in status.stdout
        assert place.orders == 1
        waiting = place.cert("issue")
        assert waiting.returncode == 1
        assert "The last order failed; the next is tried at" in waiting.stdout
        place.product.stop()
        place.start()
        assert place.shown(anyone()) != stand_in, "made anew at each start"
        assert place.orders == 1, "the pause after a refusal survives a restart"
        state = json.loads((place.product.data_dir / "acme" / "state.json").read_text())
        assert datetime.fromisoformat(state["retry_at"]) > datetime.now(UTC) + timedelta(minutes=3)
        assert status_of(f"{place.product.plain_base}/-/healthz") == 200
    with place.authority() as pebble:
        mended = place.cert("issue", "--force")
        assert mended.returncode == 0, mended.stderr
        eventually(lambda: verifies(place, trusting(pebble)), place.product)
        assert place.cert("status").returncode == 0


def test_the_site_is_closed_while_a_self_signed_certificate_stands_in_and_opens_by_itself(
    place: Scene,
) -> None:
    with place.authority(reaches_us=False):
        place.start()
        eventually(lambda: "could not verify" in place.status()["last_error"], place.product)
        stranger = anyone()
        for target in ("/", "/login", "/v1/containers/alice/test/tool"):
            answer = place.ask(stranger, target)
            assert answer.status == 503
            assert int(answer.fields["retry-after"]) > 0
            assert "is being ordered" in json.loads(answer.body)["error"]["message"]
            assert answer.fields["connection"] == "close"
        page = place.ask(stranger, "/", Accept="text/html")
        assert page.status == 503
        assert page.fields["content-type"].startswith("text/html")
        assert "The certificate of this site is being ordered" in page.body
        assert place.ask(stranger, "/-/healthz").status == 200
        assert json.loads(place.ask(stranger, "/version").body)["data"]["apiVersion"]
        challenge = place.product.data_dir / "acme" / "challenges" / "a-token-of-theirs"
        challenge.write_text("proof")
        assert place.ask(stranger, "/.well-known/acme-challenge/a-token-of-theirs").body == "proof"
        assert status_of(f"{place.product.plain_base}/.well-known/acme-challenge/a-token-of-theirs") == 200
        eventually(lambda: "could not verify" in place.told().last_error, place.product)
        assert place.told().stands_in
        assert place.told().next_try > place.told().last_error_at > 0
    with place.authority() as pebble:
        mended = place.cert("issue", "--force")
        assert mended.returncode == 0, mended.stderr
        eventually(lambda: verifies(place, trusting(pebble)), place.product)
        assert place.ask(trusting(pebble), "/", Accept="text/html").status == 200
        eventually(lambda: not place.told().stands_in, place.product)
        told = place.told()
        assert (set(told.names), told.last_error) == (set(NAMES), "")
        assert told.not_after > told.next_renewal > told.at


def test_after_kill_9_within_an_order_a_restart_waits_and_then_goes_on(place: Scene) -> None:
    with place.authority(PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="5") as pebble:
        place.start()
        eventually(lambda: place.orders > 0, place.product)
        place.product.kill()
        assert not place.status().get("last_error")
        place.start()
        assert place.orders == 1, "a crash loop orders nothing"
        place.product.stop()
        forget_the_pause(place)
        place.start()
        eventually(lambda: verifies(place, trusting(pebble)), place.product)
        orders, leaf = place.orders, place.shown(trusting(pebble))
        place.product.stop()
        place.start()
        assert place.shown(trusting(pebble)) == leaf, "a restart serves what is there"
        assert place.orders == orders


def forget_the_pause(place: Scene) -> None:
    path = place.product.data_dir / "acme" / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "retry_at": "2020-01-01T00:00:00+00:00"}))
