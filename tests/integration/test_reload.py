"""Owns SIGHUP: the settings as they are now count for what comes now, and nothing that runs is cut."""

import http.client
import json
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.certificates import rsa_chain
from tests.support.open_upload import OpenUpload
from tests.support.product import Product, running_product

GENEROUS_S = 30.0


class Site:
    """A product, the file of its settings, and its reload."""

    def __init__(self, product: Product, config: Path) -> None:
        self.product = product
        self.config = config
        self._reloads = 0

    def reload(self, text: str, *, expect: str = "reload: new: ") -> str:
        """Write the settings, SIGHUP, wait for the word in the log; that line."""
        self.config.write_text(text)
        before = self.product.log_text.count(expect)
        os.kill(self.product.pid, signal.SIGHUP)
        processes.until(lambda: self.product.log_text.count(expect) > before, timeout_s=GENEROUS_S)
        return self.product.log_text[self.product.log_text.rindex(expect) :].splitlines()[0]

    def everywhere(self, path: str, wanted: int, *, headers: dict[str, str] | None = None) -> None:
        """Wait until several connections in a row, whoever takes them, get this status."""
        processes.until(
            lambda: all(self.product.get(path, headers=headers)[0] == wanted for _ in range(8)),
            timeout_s=GENEROUS_S,
        )


@contextmanager
def site(folder: Path, text: str = "", *flags: str) -> Iterator[Site]:
    config = folder / "gateway.toml"
    config.write_text(text)
    with running_product(folder, flags=("--config", str(config), *flags)) as product:
        yield Site(product, config)


class Backend:
    """A backend of a route: it says its name, and on ``/…/slow`` only when it may."""

    def __init__(self, name: str) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.endswith("/slow"):
                    backend.asked.set()
                    backend.may_answer.wait(GENEROUS_S)
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def setup(self) -> None:
                super().setup()
                backend.open += 1

            def finish(self) -> None:
                super().finish()
                backend.open -= 1

            def log_message(self, *_: object) -> None:
                pass

        self.open = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def route(backend: Backend, prefix: str = "/app", more: str = "") -> str:
    return f'[[routes]]\nprefix = "{prefix}"\nupstream = "{backend.url}"\n{more}\n'


def upstreams(product: Product) -> list[str]:
    return [one["upstream"] for one in json.loads(product.get("/-/upstreams")[1])["upstreams"]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_registry_is_called_and_who_may_what_changes_at_once(short_path: Path, workers: int) -> None:
    with site(short_path, 'registry.name = "Old"\n', "--workers", str(workers)) as here:
        product = here.product
        core = product.core_pid()
        assert "Old" in product.get("/")[1].decode()
        here.reload(
            'registry.name = "New Name"\nregistry.contact = "help@example.org"\n'
            'server.cors_origins = ["https://pages.example"]\nserver.server_names = ["other.example"]\n'
            'server.public_url = "https://registry.example"\nserver.trusted_proxies = ["127.0.0.1/32"]\n'
            'server.admin_allow = ["203.0.113.0/24"]\nmaintenance.retry_after_s = 77\n'
        )
        # Another core is there, by a restart without a gap.
        product.wait_log("reload: the core has the new settings")
        assert product.core_pid() != core
        assert "New Name" in product.get("/")[1].decode()
        # The peer is who the proxy says: a stranger does not see the operator's pages, an allowed network does.
        here.everywhere("/-/healthz", 404, headers={"X-Forwarded-For": "198.51.100.1"})
        here.everywhere("/-/healthz", 200, headers={"X-Forwarded-For": "203.0.113.9"})
        asked = ("-i", "-X", "OPTIONS", "-H", "Origin: https://pages.example", f"{product.base}/uploads/")
        assert "access-control-allow-origin: https://pages.example" in product.curl(*asked).stdout
        moved = product.curl("-i", "-k", "-H", "Host: www.other.example", f"{product.base}/a").stdout
        assert "location: https://other.example/a" in moved
        product.run("gateway", "maintenance", "on")
        closed = product.curl(
            "-i", "-H", "X-Forwarded-For: 198.51.100.1", "-H", "Accept: text/html", product.base
        ).stdout
        assert "New Name" in closed
        assert "help@example.org" in closed
        assert "retry-after: 77" in closed
        product.run("gateway", "maintenance", "off")
        assert product.log_text.count("reload: new: ") == 1, "the first process says it for all"


@pytest.mark.slow
def test_limits_count_for_what_begins_and_not_for_what_runs(short_path: Path) -> None:
    size = 1 << 20
    with site(short_path) as here:
        product = here.product
        token = product.new_user("ada")
        begin = {"token": token, "collection": "ada/tools"}
        core = product.core_pid()
        with OpenUpload(product, name="old", size_bytes=size, **begin) as upload:
            upload.send(size // 2)
            with closing(kept(product)) as connection:
                assert status(connection) == 200
                here.reload(
                    f"limits.upload_bytes = {size // 4}\nlimits.uploads = 1\nlimits.head_bytes = 1000\n"
                )
                # The connection is the same, its next request has the new limits.
                assert status(connection) == 200
                assert status(connection, {"X-Long": "x" * 2000}) == 431
            with OpenUpload(product, name="second", size_bytes=size, **begin) as second:
                assert second.finish_or_answer()[0] == 429
            assert upload.finish()[0] == 201
        with OpenUpload(product, name="new", size_bytes=size, **begin) as upload:
            assert upload.finish_or_answer()[0] == 413
        assert product.core_pid() == core, "it does not read these"
        here.reload("")
        with OpenUpload(product, name="new", size_bytes=size, **begin) as upload:
            assert upload.finish()[0] == 201


def kept(product: Product) -> http.client.HTTPConnection:
    return http.client.HTTPSConnection(
        "localhost", product.https_port, context=product.ssl_context(), timeout=GENEROUS_S
    )


def status(connection: http.client.HTTPConnection, headers: dict[str, str] | None = None) -> int:
    connection.request("GET", "/version", headers=headers or {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.slow
def test_routes_come_and_go_and_their_requests_are_not_cut(short_path: Path) -> None:
    with closing(Backend("one")) as one, closing(Backend("two")) as two, site(short_path) as here:
        product = here.product
        assert product.get("/app/x")[0] == 404
        here.reload(route(one) + route(one, "/kept"))
        assert product.get("/app/x") == (200, b"one")
        assert upstreams(product) == ["core", "/app", "/kept"]
        product.get("/kept/x")
        answers: list[tuple[int, bytes]] = []
        waiting = threading.Thread(target=lambda: answers.append(product.get("/app/slow")))
        waiting.start()
        assert one.asked.wait(GENEROUS_S)
        here.reload(route(two, more='health_path = "/ok"\nhealth_every_s = 0.05') + route(one, "/kept"))
        assert product.get("/app/x") == (200, b"two")
        assert set(upstreams(product)) == {"core", "/app", "/kept"}
        # The one under way was sent to the old backend, whose connections close when it is over.
        one.may_answer.set()
        waiting.join()
        assert answers == [(200, b"one")]
        processes.until(lambda: one.open == 1)
        assert product.get("/kept/x") == (200, b"one"), "by the connection that it had"
        assert one.open == 1
        here.reload("")
        assert product.get("/app/x")[0] == 404
        assert upstreams(product) == ["core"]
        processes.until(lambda: (one.open, two.open) == (0, 0))
        processes.until(lambda: 'upstream="/app"' not in product.get("/-/metrics")[1].decode())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_change_is_named_and_neither_gateway_nor_core_takes_it(
    short_path: Path, workers: int
) -> None:
    with site(short_path, "", "--workers", str(workers)) as here:
        product = here.product
        text = (
            'storage.kind = "s3"\ncore.url = "http://127.0.0.1:9"\nserver.more_http = ["127.0.0.1:9"]\n'
            'server.https = "127.0.0.1:10"\nregistry.quota_bytes = 12345\n'
        )
        said = "reload: a change of server.more_http, storage.kind, core.url needs gateway upgrade"
        for _ in range(2):
            assert here.reload(text, expect="reload: a change of ") == said
        product.wait_log("reload: the core has the new settings")
        # The flag for https wins over the file, so there is nothing to be told of it.
        token = product.new_user("ada")
        with OpenUpload(product, token=token, collection="ada/c", name="n", size_bytes=10000) as upload:
            assert upload.finish()[0] == 201
        with OpenUpload(product, token=token, collection="ada/c", name="m", size_bytes=10000) as upload:
            assert upload.finish_or_answer()[0] == 413, "the quota is the new one"
        assert product.blob_files() != []
        # Nor does a worker that is started again after it died.
        for pid in processes.direct_children_of(product.pid):
            if "registry_core" not in processes.command_line(pid):
                processes.send(pid, signal.SIGKILL)
                processes.wait_gone([pid], timeout_s=GENEROUS_S)
        here.everywhere("/-/readyz", 200)


@pytest.mark.slow
def test_wrong_settings_are_a_sentence_and_the_old_ones_stay(short_path: Path) -> None:
    with site(short_path, "limits.uploads = 5\n") as here:
        product = here.product
        wrong = "reload: the settings stay as they are: "
        assert "did you mean limits.uploads" in here.reload("limits.uplods = 1\n", expect=wrong)
        assert "maintenance.page" in here.reload(f'maintenance.page = "{short_path}/none"\n', expect=wrong)
        key = short_path / "bad.key"
        key.write_text("no key")
        with closing(Backend("one")) as one:
            upload = f'action = "upload"\nstore = "{short_path}/up"\nsign_key_file = "{key}"'
            assert "sign_key_file" in here.reload(
                route(one, "/new") + route(one, "/up", upload), expect=wrong
            )
        assert upstreams(product) == ["core"]
        assert product.get("/new")[0] == 404
        assert here.reload("limits.uploads = 5\n") == "reload: new: nothing"
        assert here.reload("limits.uploads = 6\n") == "reload: new: limits.uploads"


@pytest.mark.slow
def test_the_log_and_the_page_and_the_names_of_the_certificate(short_path: Path) -> None:
    page = short_path / "page.html"
    page.write_text("first")
    text = f'maintenance.page = "{page}"\nserver.trusted_proxies = ["127.0.0.1/32"]\n'
    with site(short_path) as here:
        product = here.product
        here.reload(text)
        product.run("gateway", "maintenance", "on")
        closed = ("-H", "Accept: text/html", "-H", "X-Forwarded-For: 198.51.100.1", f"{product.base}/")
        assert product.curl(*closed).stdout == "first"
        page.write_text("second")
        here.reload(text + 'log.format = "json"\nlog.access = false\nserver.server_names = ["reg.example"]\n')
        assert product.curl(*closed).stdout == "second"
        product.run("gateway", "maintenance", "off")
        product.get("/version?unseen")
        assert "unseen" not in product.log_text
        json.loads(product.log_text[product.log_text.rindex('{"time"') :].splitlines()[0])
        resolved = ("--resolve", f"reg.example:{product.https_port}:127.0.0.1")
        url = f"https://reg.example:{product.https_port}/version"
        processes.until(lambda: product.curl(*resolved, url, check=False).returncode == 0)


@pytest.mark.slow
def test_the_certificate_may_move_to_other_files(short_path: Path) -> None:
    config, roots = short_path / "gateway.toml", short_path / "roots.pem"
    chains = {name: rsa_chain(["localhost"]) for name in ("a", "b")}
    roots.write_bytes(b"".join(chain.root for chain in chains.values()))
    for name, chain in chains.items():
        (short_path / f"{name}.pem").write_bytes(chain.chain)
        (short_path / f"{name}.key").write_bytes(chain.key)

    def named(name: str) -> str:
        return f'[tls]\nmode = "files"\ncertificate = "{short_path}/{name}.pem"\nkey = "{short_path}/{name}.key"\n'

    def shows(product: Product, name: str) -> bool:
        shown = ssl.get_server_certificate(("127.0.0.1", product.https_port), timeout=10)
        return ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(chains[name].leaf.decode())

    config.write_text(named("a"))
    flags = ("--config", str(config), "--workers", "2")
    with running_product(short_path / "product", flags=flags, start=False) as product:
        product.ca = roots
        product.start()
        here = Site(product, config)
        assert shows(product, "a")
        here.reload(named("b"))
        processes.until(lambda: all(shows(product, "b") for _ in range(8)), timeout_s=GENEROUS_S)
        # Where nothing is, the one in use stays; what comes there later is taken up by itself.
        here.reload(named("c"), expect="the certificate stays as it is")
        assert shows(product, "b")
        for kind in ("pem", "key"):
            (short_path / f"a.{kind}").rename(short_path / f"c.{kind}")
        processes.until(lambda: all(shows(product, "a") for _ in range(8)), timeout_s=GENEROUS_S)


@pytest.mark.slow
def test_a_signal_before_anything_listens_is_obeyed_later(short_path: Path) -> None:
    config = short_path / "gateway.toml"
    config.write_text("")
    with running_product(short_path, flags=("--config", str(config)), start=False) as product:
        product.start(wait=False)
        # As soon as Python has read our first lines it is only noted; before, it is any program's end.
        processes.until(lambda: _notes_hangup(product.pid))
        os.kill(product.pid, signal.SIGHUP)
        product.wait_ready()
        product.wait_log("reload: new: nothing")


def _notes_hangup(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGHUP - 1) & 1)


@pytest.mark.slow
def test_reloads_under_load_cost_nobody_anything(short_path: Path) -> None:
    failed: list[str] = []
    over = threading.Event()
    with site(short_path) as here:
        product = here.product

        def ask() -> None:
            while not over.is_set():
                try:
                    with closing(kept(product)) as connection:
                        for _ in range(20):
                            connection.request("GET", "/login")
                            answer = connection.getresponse()
                            answer.read()
                            if answer.status != 200:
                                failed.append(str(answer.status))
                except (OSError, http.client.HTTPException) as exc:
                    failed.append(repr(exc))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(3):
                here.reload(f'registry.name = "Name {number}"\nlimits.uploads = {number + 1}\n')
                product.wait_log("reload: the core has the new settings", more_than=number)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failed == []
        assert "Name 2" in product.get("/login")[1].decode()
