"""Several listeners, on both families, as `gateway serve` opens them."""

import json
import os
import socket
import ssl
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from gateway.net.server import listen_on, listener_addresses
from gateway.settings import Settings
from gateway.systemd import activated_sockets
from tests.support.product import free_port, running_product

STATUS = ("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")


def test_further_listeners_and_ipv6_serve_and_redirect_like_the_first(tmp_path: Path) -> None:
    secure, plain = free_port(), free_port()
    settings = {
        "GATEWAY_SERVER__MORE_HTTPS": f"[::1]:{secure},127.0.0.1:{secure}",
        "GATEWAY_SERVER__MORE_HTTP": f"[::1]:{plain}",
        "GATEWAY_SERVER__WORKERS": "2",
    }
    with running_product(tmp_path, settings=settings) as product:
        for base in (product.base, f"https://[::1]:{secure}", f"https://127.0.0.1:{secure}"):
            assert product.curl(*STATUS, f"{base}/").stdout == "200 "
            assert json.loads(product.curl(f"{base}/-/healthz").stdout) == {"status": "ok"}
        for base, there in (
            (product.plain_base, product.base),
            (f"http://[::1]:{plain}", f"https://[::1]:{product.https_port}"),
        ):
            assert product.curl(*STATUS, f"{base}/a?b=c").stdout == f"308 {there}/a?b=c"
        confused = product.curl("-i", f"http://[::1]:{secure}/").stdout
        assert confused.startswith("HTTP/1.1 400 ")
        assert "x-request-id: " in confused
        checked = product.run("gateway", "check", check=False).stdout
        for name, address in (("https-2", f"[::1]:{secure}"), ("http-2", f"[::1]:{plain}")):
            assert any(
                name in line and address in line and "serves there" in line for line in checked.splitlines()
            )


def test_strict_sni_holds_on_every_listener(tmp_path: Path) -> None:
    port = free_port()
    settings = {"GATEWAY_TLS__STRICT_SNI": "true", "GATEWAY_SERVER__MORE_HTTPS": f"[::1]:{port}"}
    with running_product(tmp_path, settings=settings) as product:
        context = product.ssl_context()
        with (
            socket.create_connection(("::1", port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            assert tls.version() == "TLSv1.3"
        for name in ("elsewhere.example", "::1"):  # an address is not sent: no name at all
            with (
                socket.create_connection(("::1", port)) as raw,
                pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
            ):
                context.wrap_socket(raw, server_hostname=name)


def test_the_wildcard_of_ipv6_leaves_ipv4_to_who_asks_for_it() -> None:
    port = free_port()
    settings = Settings.model_validate(
        {"server": {"https": f"0.0.0.0:{port}", "more_https": [f"[::]:{port}"], "http": ""}}
    )
    sockets = listen_on(listener_addresses(settings))
    try:
        assert {name: opened.family for name, opened in sockets.items()} == {
            "https": socket.AF_INET,
            "https-2": socket.AF_INET6,
        }
    finally:
        for opened in sockets.values():
            opened.close()


def test_systemd_may_hand_over_several_of_one_name() -> None:
    program = (
        "import os, sys\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from gateway.systemd import activated_sockets\n"
        "print(*activated_sockets(os.environ))\n"
    )
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        names = {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "https:http:https"}
        numbers = [opened.fileno() for opened in (one, two, three)]
        # From 3 on, as systemd numbers them: the shell moves them there.
        moves = " ".join(f"{3 + index}<&{number}" for index, number in enumerate(numbers))
        command = ["bash", "-c", f'exec {moves}; exec "$@"', "-", sys.executable, "-c", program]
        with Popen(command, stdout=PIPE, pass_fds=numbers, env={**os.environ, **names}, text=True) as process:
            said, _ = process.communicate(timeout=30)
    assert said.split() == ["https", "http", "https-2"]
    assert activated_sockets({}) == {}
