"""Owns the proof that upgrades are noticed by nobody: everything an administrator does, under a load that counts.

``LOAD_MIB`` is the size of each upload (64; the full proof is ``LOAD_MIB=1024``).
"""

import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.certificates import RsaChain, rsa_chain
from tests.support.load import Counts, Getters
from tests.support.load_uploads import MIB, TusUploader, Uploader
from tests.support.open_upload import OpenUpload
from tests.support.product import Product, running_product
from tests.support.release import SAYS, ReleaseFolder

LOAD_MIB = int(os.environ.get("LOAD_MIB", "64"))
PACE_S = 2 + LOAD_MIB / 32  # so that whatever is done meets uploads that run
GETS_PER_S = 50
PATIENCE_S = 60 + 3 * PACE_S
SMALL = 300_000


class Certificates:
    """The files of ``tls.mode = files``."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.roots = folder / "data" / "tls" / "ca.crt"
        self.roots.parent.mkdir(parents=True)
        self._new = [rsa_chain(["localhost"]) for _ in range(2)]
        self.roots.write_bytes(b"".join(chain.root for chain in self._new))
        self.current = self.replace()

    def replace(self) -> RsaChain:
        """Write the next certificate over the one before."""
        self.current = self._new.pop()
        for path, pem in ((self.key, self.current.key), (self.chain, self.current.chain)):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(pem)
            fresh.replace(path)
        return self.current


class Load:
    """The product and all that is done to it."""

    def __init__(
        self, product: Product, releases: ReleaseFolder, certificates: Certificates, config: Path
    ) -> None:
        self.product, self.releases, self.certificates = product, releases, certificates
        self.config = config
        self.counts = Counts()
        token = product.new_user("ada")
        with OpenUpload(
            product, token=token, collection="ada/tools", name="tool", size_bytes=SMALL
        ) as upload:
            assert upload.finish()[0] == 201
        self.token = token
        self.getters = Getters(
            product, self.counts, ref="ada/tools/tool:latest", content=upload.content, per_s=GETS_PER_S
        )
        kinds = (Uploader, TusUploader, Uploader, TusUploader)
        self.uploaders = [
            kind(product, self.counts, token=token, number=n, size=LOAD_MIB * MIB, pace_s=PACE_S)
            for n, kind in enumerate(kinds)
        ]

    def start(self) -> None:
        for thread in (*self.getters.threads, *self.uploaders):
            thread.start()

    def end(self) -> None:
        for uploader in self.uploaders:
            uploader.over.set()
        for uploader in self.uploaders:
            uploader.join()
        self.getters.over.set()
        for thread in self.getters.threads:
            thread.join()

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < until, f"{what}\n{self.counts.table()}\n{self.counts.failed[-5:]}"
            time.sleep(0.05)

    def until_all_run(self) -> None:
        """All four uploads are somewhere in the middle."""
        some, most = LOAD_MIB * MIB // 10, LOAD_MIB * MIB * 9 // 10
        self._wait(lambda: all(some < u.sent < most for u in self.uploaders), "all uploads run at once")

    def until_one_more(self) -> None:
        """Each uploader has finished what it had begun."""
        before = [uploader.done for uploader in self.uploaders]
        self._wait(
            lambda: all(u.done > done for u, done in zip(self.uploaders, before, strict=True)),
            "every uploader comes to an end",
        )

    # -- what an administrator does

    def maintenance(self) -> None:
        said = ("--message", "New disks.", "--until", "2099-01-01T00:00:00Z")
        self.product.run("gateway", "maintenance", "on", *said)
        time.sleep(2)
        self.product.run("gateway", "maintenance", "off")

    def read_only(self) -> None:
        self.product.run("gateway", "maintenance", "on", "--mode", "read-only")
        time.sleep(2)
        self.product.run("gateway", "maintenance", "off")

    def core_upgrade(self) -> None:
        self.releases.install(seconds=1.5)
        said = self.product.run("gateway", "core", "upgrade").stdout
        assert "the database is up to date and the core serves" in said

    def core_restart(self) -> None:
        assert "the new core serves" in self.product.run("gateway", "core", "restart").stdout

    def upgrade(self) -> None:
        before = self.product.pid
        self.product.upgrade()
        assert self.product.pid != before

    def upgrade_by_signal(self) -> None:
        before = self.product.pid
        self.product.upgrade_by_signal()
        assert self.product.pid != before

    def reload(self) -> None:
        self.config.write_text('registry.name = "Reloaded"\nlimits.form_files = 7\n')
        os.kill(self.product.pid, signal.SIGHUP)
        self.product.wait_log("reload: the core has the new settings")
        assert "new: limits.form_files, registry.name" in self.product.log_text

    def new_certificate(self) -> None:
        self.certificates.replace()
        os.kill(self.product.pid, signal.SIGHUP)
        self._wait(self._shows_certificate, "the new certificate is shown")

    def _shows_certificate(self) -> bool:
        wanted = ssl.PEM_cert_to_DER_cert(self.certificates.current.leaf.decode())
        shown = [
            ssl.get_server_certificate(("127.0.0.1", self.product.https_port), timeout=10) for _ in range(6)
        ]
        return all(ssl.PEM_cert_to_DER_cert(pem) == wanted for pem in shown)

    def kill_worker(self) -> None:
        (victim, *others) = self.workers()
        self.counts.kills.append(time.monotonic())
        os.kill(victim, signal.SIGKILL)
        self._wait(lambda: len(self.workers()) > len(others), "the worker is started again")

    def workers(self) -> list[int]:
        """Those of the gateway that serves now."""
        return [
            pid
            for pid in processes.direct_children_of(self.product.pid)
            if "registry_core" not in processes.command_line(pid) and processes.is_alive(pid)
        ]


@pytest.fixture
def load(short_path: Path) -> Iterator[Load]:
    releases = ReleaseFolder(short_path / "release")
    certificates = Certificates(short_path)
    settings = {
        **releases.environ,
        "GATEWAY_TLS__MODE": "files",
        "GATEWAY_TLS__CERTIFICATE": str(certificates.chain),
        "GATEWAY_TLS__KEY": str(certificates.key),
        "GATEWAY_SERVER__WORKERS": "2",
    }
    config = short_path / "gateway.toml"
    config.write_text("")
    with running_product(short_path, settings=settings, flags=("--config", str(config))) as product:
        yield Load(product, releases, certificates, config)


@pytest.mark.slow
@pytest.mark.timeout(240 + int(60 * PACE_S))
def test_nobody_notices_an_upgrade(load: Load) -> None:
    began = time.monotonic()
    load.start()
    try:
        for turn in (
            load.maintenance,
            load.read_only,
            load.core_upgrade,
            load.upgrade,
            load.until_one_more,  # what the old process had is over: the kill meets uploads of the new one
            load.new_certificate,
            load.reload,
            load.kill_worker,
            load.core_restart,
            load.upgrade_by_signal,
        ):
            load.until_all_run()
            mark = time.monotonic()
            turn()
            print(f"{mark - began:6.1f} s  {turn.__name__} ({time.monotonic() - mark:.1f} s)", flush=True)
        load.until_one_more()
    finally:
        load.end()
    print(f"{time.monotonic() - began:6.1f} s, uploads of {LOAD_MIB} MiB\n{load.counts.table()}")
    print("\n".join(load.counts.failed))
    assert load.counts.failed == []
    assert load.counts.numbers["connections refused"] == 0
    assert load.counts.numbers["uploads failed"] == 0
    _what_was_promised_is_there(load)


def _what_was_promised_is_there(load: Load) -> None:
    product = load.product
    promised = {ref: digest for uploader in load.uploaders for ref, digest in uploader.promised.items()}
    for ref, digest in promised.items():
        assert (
            product.get_json(f"/v1/images/{ref}?arch=amd64", token=load.token)["hash"] == f"sha256.{digest}"
        )
    assert product.log_text.count(SAYS) >= 2, "the code that serves now is that of the new release"
    assert product.run("registry", "fsck").stdout.strip() == ""
    product.wait_only_one()
    assert product.staging_files() == []
    assert list((product.data_dir / "outbox" / "pending").iterdir()) == []
