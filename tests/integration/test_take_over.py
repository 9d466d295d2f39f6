"""Owns what a successor listens on: what its settings say, with the inherited sockets where they fit."""

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.listeners import take_over
from gateway.net.server import listen_on
from tests.support import processes
from tests.support.open_upload import OpenUpload
from tests.support.product import Product, ProductFailed, free_port, running_product

type Sockets = dict[str, socket.socket]


class Places:
    """Sockets of a process and of its successor. Closed at the end."""

    def __init__(self) -> None:
        self._all: list[socket.socket] = []

    def opened(self, addresses: Mapping[str, str]) -> Sockets:
        """As a process has them at its start."""
        sockets = listen_on(addresses)
        self._all += sockets.values()
        return sockets

    def taken(self, addresses: Mapping[str, str], inherited: Sockets) -> Sockets:
        """What a successor makes of them; it has descriptors of its own."""
        own = {name: sock.dup() for name, sock in inherited.items()}
        self._all += own.values()
        sockets = take_over(addresses, own)
        self._all += sockets.values()
        return sockets

    def close(self) -> None:
        for sock in self._all:
            sock.close()


@pytest.fixture
def places() -> Iterator[Places]:
    made = Places()
    yield made
    made.close()


def is_same(one: socket.socket, other: socket.socket) -> bool:
    """Whether two descriptors are one socket: no connection that waits for it is lost."""
    return os.fstat(one.fileno()).st_ino == os.fstat(other.fileno()).st_ino


def place(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port


def test_the_same_addresses_are_the_same_sockets(places: Places) -> None:
    addresses = {
        "https": f"127.0.0.1:{free_port()}",
        "https-2": f"[::1]:{free_port()}",
        "https-3": f"[::]:{free_port()}",
        "http": f"localhost:{free_port()}",
    }
    before = places.opened(addresses)
    after = places.taken(addresses, before)
    assert list(after) == list(addresses)
    assert all(is_same(after[name], before[name]) for name in addresses)


def test_what_is_new_is_opened_and_what_nobody_wants_is_let_go(places: Places) -> None:
    kept, gone, new = (f"127.0.0.1:{free_port()}" for _ in range(3))
    before = places.opened({"http": gone, "https": kept})
    after = places.taken({"http": new, "https": kept}, before)
    assert is_same(after["https"], before["https"])
    assert f"127.0.0.1:{after['http'].getsockname()[1]}" == new
    before["http"].close()  # the old process ends
    host, port = gone.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_an_address_counts_not_its_name(places: Places) -> None:
    one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
    before = places.opened({"http": one, "https": two})
    after = places.taken({"http": two, "https": one}, before)
    assert is_same(after["http"], before["https"])
    assert is_same(after["https"], before["http"])


def test_any_port_is_the_port_that_it_has(places: Places) -> None:
    addresses = {"https": "127.0.0.1:0", "https-2": "[::1]:0", "http": "127.0.0.1:0"}
    before = places.opened(addresses)
    after = places.taken(addresses, before)
    assert all(is_same(after[name], before[name]) for name in addresses)
    # One that is now named by its port goes to that name, and any other port is another.
    port = before["http"].getsockname()[1]
    later = places.taken({"http": f"127.0.0.1:{port}", "http-2": "127.0.0.1:0"}, {"http-2": before["http"]})
    assert is_same(later["http"], before["http"])
    assert place(later["http-2"]) not in {("127.0.0.1", port), ("127.0.0.1", 0)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1:{}", "0.0.0.0:{}"),
        ("0.0.0.0:{}", "127.0.0.1:{}"),
        ("0.0.0.0:{}", "[::]:{}"),
        ("[::]:{}", "0.0.0.0:{}"),
        ("[::1]:{}", "[::]:{}"),
    ],
)
def test_a_port_moves_between_one_address_and_all(places: Places, before: str, after: str) -> None:
    port = free_port()
    old = places.opened({"https": before.format(port)})
    new = places.taken({"https": after.format(port)}, old)
    assert not is_same(new["https"], old["https"])
    old["https"].close()
    host = "::1" if "[::1]" in before else "127.0.0.1"
    with socket.create_connection((host, port), timeout=5):
        new["https"].settimeout(5)
        new["https"].accept()[0].close()


def test_all_of_ipv6_makes_room_for_ipv4_and_back(places: Places) -> None:
    port = free_port()
    one, both = {"https": f"[::]:{port}"}, {"https": f"[::]:{port}", "https-2": f"0.0.0.0:{port}"}
    first = places.opened(one)
    second = places.taken(both, first)
    for sock in first.values():
        sock.close()
    third = places.taken(one, second)
    for sock in second.values():
        sock.close()
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port), timeout=5):
            third["https"].settimeout(5)
            third["https"].accept()[0].close()


def test_a_second_gateway_is_refused_there_as_ever(places: Places) -> None:
    port = free_port()
    before = places.opened({"http": f"127.0.0.1:{port}"})
    after = places.taken({"http": f"0.0.0.0:{port}"}, before)
    for sock in (*before.values(), *after.values()):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    for address in ("127.0.0.1", "0.0.0.0", "[::]"):
        with pytest.raises(SettingsError, match="another program listens there"):
            places.opened({"http": f"{address}:{port}"})


def test_what_cannot_be_opened_is_said_and_nothing_of_the_old_process_changes(places: Places) -> None:
    kept = f"127.0.0.1:{free_port()}"
    before = places.opened({"http": kept})
    with socket.create_server(("127.0.0.1", free_port())) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(SettingsError, match="another program listens there"):
            places.taken({"http": taken, "http-2": kept}, before)
    assert before["http"].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert before["http"].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


class Site:
    """A product whose settings file names its listeners."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "gateway.toml"
        self.product: Product

    def says(self, *, http: str, more_https: tuple[str, ...] = (), workers: int = 1) -> None:
        self.config.write_text(
            f'server.http = "{http}"\nserver.https = "127.0.0.1:{self.product.https_port}"\n'
            f"server.more_https = {list(more_https)}\nserver.workers = {workers}\n"
            'server.public_url = "https://localhost"\ntls.redirect = false\n'
        )

    def plain(self, port: int) -> str:
        """Curl's word for a listener without TLS: a status, or 000 where nobody listens."""
        words = ("-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/version")
        return self.product.curl(*words, check=False).stdout


@pytest.fixture
def site(short_path: Path) -> Iterator[Site]:
    made = Site(short_path)
    flags = ("--config", str(made.config))
    with running_product(short_path, flags=flags, start=False, names_ports=False) as product:
        made.product = product
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_upgrade_serves_what_the_settings_say_now(site: Site, workers: int) -> None:
    product, moved, added = site.product, free_port(), free_port()
    site.says(http=f"127.0.0.1:{product.http_port}", workers=workers)
    product.start()
    token = product.new_user("ada")
    with OpenUpload(product, token=token, collection="ada/tools", name="tool", size_bytes=1 << 20) as upload:
        upload.send(1 << 18)
        site.says(http=f"127.0.0.1:{moved}", more_https=(f"[::1]:{added}",), workers=workers)
        product.upgrade()
        assert site.plain(moved) == "200"
        assert product.curl(f"https://[::1]:{added}/version").stdout.startswith('{"data"')
        # The old process is there as long as its upload runs: where it alone listened, nobody waits in vain.
        processes.until(lambda: site.plain(product.http_port) == "000")
        assert upload.finish()[0] == 201
    product.wait_only_one()
    site.says(http=f"127.0.0.1:{moved}", workers=3 - workers)
    product.upgrade()
    product.wait_only_one()
    assert site.plain(moved) == "200"
    assert product.curl(f"https://[::1]:{added}/version", check=False).returncode == 7


@pytest.mark.slow
def test_an_address_that_cannot_be_had_fails_the_upgrade_and_all_goes_on(site: Site) -> None:
    product = site.product
    site.says(http=f"127.0.0.1:{product.http_port}")
    product.start()
    first = product.pid
    with socket.create_server(("127.0.0.1", free_port())) as other:
        taken = other.getsockname()[1]
        site.says(http=f"127.0.0.1:{taken}")
        with pytest.raises(ProductFailed, match=r"the new process did not get ready \(exit code 2\)"):
            product.upgrade()
    assert f"cannot listen on 127.0.0.1:{taken}: another program listens there" in product.log_text
    assert product.pid == first
    assert site.plain(product.http_port) == "200"
    assert product.get("/version")[0] == 200
