"""What OpenSSL's configuration adds to the handshake: cheap groups only, AES-128 first."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.openssl_policy import CONFIGURATION, VARIABLE, apply_openssl_policy, without_openssl_policy

SERVER = """
import sys
from gateway.net.openssl_policy import apply_openssl_policy
assert apply_openssl_policy()
import asyncio
from gateway.net.tls import open_source
from gateway.settings import Settings
source = open_source(Settings.model_validate({"server": {"data_dir": sys.argv[1]}}))
async def main():
    async def close(reader, writer):
        writer.close()
    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=source.context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path_factory.mktemp("data"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as server:
        assert server.stdout
        assert server.stdin
        yield int(server.stdout.readline())
        server.stdin.close()


def negotiated(port: int, *options: str) -> str:
    openssl = shutil.which("openssl")
    assert openssl
    command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", *options]
    return subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    ).stdout


def test_a_group_that_costs_a_hundred_times_more_is_refused(port: int) -> None:
    for cheap in ("X25519", "P-256", "P-384"):
        assert "Cipher is TLS_" in negotiated(port, "-groups", cheap)
    for dear in ("ffdhe2048", "ffdhe8192", "P-521"):
        assert "Cipher is (NONE)" in negotiated(port, "-groups", dear)


def test_aes_128_is_chosen_unless_the_client_would_rather_have_chacha(port: int) -> None:
    assert "Cipher is TLS_AES_128_GCM_SHA256" in negotiated(port)
    suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    assert "Cipher is TLS_CHACHA20_POLY1305_SHA256" in negotiated(port, "-ciphersuites", suites)


def test_an_administrators_own_configuration_stays() -> None:
    mine = {VARIABLE: "/etc/fips.cnf"}
    assert not apply_openssl_policy(mine)
    assert mine == {VARIABLE: "/etc/fips.cnf"}
    assert without_openssl_policy(mine) == mine


def test_the_policy_is_not_handed_to_programs_of_others() -> None:
    ours = {VARIABLE: str(CONFIGURATION), "HOME": "/"}
    assert apply_openssl_policy(ours)
    assert without_openssl_policy(ours) == {"HOME": "/"}


def test_it_is_too_late_once_openssl_is_loaded(tmp_path: Path) -> None:
    empty: dict[str, str] = {}
    assert "_ssl" in sys.modules
    assert not apply_openssl_policy(empty)
    assert empty == {}
