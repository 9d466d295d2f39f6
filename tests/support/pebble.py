"""Owns Let's Encrypt's test authority Pebble and its DNS server for a test (Debian package ``pebble``)."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.net.dev_ca import ensure_leaf
from tests.support.product import free_port

EAB_KID = "kid-1"
EAB_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
START_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pebble:
    """A running authority. ``ca_file`` signs its own web server, ``root`` the certificates it issues."""

    directory: str
    ca_file: Path
    management: str

    def root(self) -> bytes:
        """The root of the certificates that this Pebble issues (a new one at each start), as PEM."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(f"{self.management}/roots/0", context=context, timeout=10) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def running_pebble(
    folder: Path,
    *,
    http_port: int,
    tls_port: int,
    environment: Mapping[str, str] | None = None,
    wants_eab: bool = False,
    days: int = 90,
    api_port: int = 0,
) -> Iterator[Pebble]:
    """A strict Pebble on loopback, for which every name leads to 127.0.0.1 and the ports given."""
    folder.mkdir(parents=True, exist_ok=True)
    ensure_leaf(folder, [])
    api, management, dns, dns_management = api_port or free_port(), *(free_port() for _ in range(3))
    settings: dict[str, object] = {
        "listenAddress": f"127.0.0.1:{api}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(folder / "leaf.crt"),
        "privateKey": str(folder / "leaf.key"),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "externalAccountBindingRequired": wants_eab,
        "externalAccountMACKeys": {EAB_KID: EAB_KEY},
        "certificateValidityPeriod": days * 86400,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    names = [
        "pebble-challtestsrv", "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}",
        "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "",
    ]  # fmt: skip
    authority = [
        "pebble", "-strict", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}",
    ]  # fmt: skip
    quick = {"PEBBLE_VA_NOSLEEP": "1", **(environment or {})}
    with (
        _running(names, folder / "dns.log", {}, dns_management),
        _running(authority, folder / "pebble.log", quick, api),
    ):
        yield Pebble(
            directory=f"https://localhost:{api}/dir",
            ca_file=folder / "ca.crt",
            management=f"https://localhost:{management}",
        )


@contextmanager
def _running(command: list[str], log: Path, environment: Mapping[str, str], port: int) -> Iterator[None]:
    program = shutil.which(command[0])
    if program is None:
        raise AssertionError(f"{command[0]} is missing: apt-get install pebble")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, *command[1:]], stdout=output, stderr=output, env={**os.environ, **environment}
        )
        try:
            _wait_for(port, process, log)
            yield
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{process.args!r} does not listen: {log.read_text()[-2000:]}")
