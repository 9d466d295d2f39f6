"""Owns kill -9 at random instants: no commit that was promised is lost, no half image, nothing left behind."""

import hashlib
import http.client
import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.support.product import Product, running_product
from tests.support.seaweed import running_seaweed

SEED = int(os.environ.get("KILL_SEED", "7"))
KILLS = int(os.environ.get("KILL_COUNT", "6"))
BYTES = 300_000
GENEROUS_S = 60.0


class Uploader(threading.Thread):
    """Uploads one small image after the other and remembers what it was promised."""

    def __init__(self, product: Product, token: str, number: int, over: threading.Event) -> None:
        super().__init__()
        self.product, self.token, self.number, self.over = product, token, number, over
        self.promised: dict[str, str] = {}
        self.answers: list[int] = []

    def run(self) -> None:
        chance = random.Random(SEED * 1000 + self.number)
        count = 0
        while not self.over.is_set():
            count += 1
            content = chance.randbytes(BYTES)
            name = f"i{self.number}-{count}"
            status = self._upload(name, content)
            self.answers.append(status)
            if status in {201, 202}:
                self.promised[f"ada/t/{name}:latest"] = hashlib.sha256(content).hexdigest()
            if status not in {201, 202}:
                time.sleep(0.1)

    def _upload(self, name: str, content: bytes) -> int:
        """The status, or 0 when the connection broke (then nothing was promised)."""
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}.sif"\r\n\r\n'
        body = head.encode() + content + b"\r\n--b--\r\n"
        connection = http.client.HTTPSConnection(
            "localhost", self.product.https_port, timeout=GENEROUS_S, context=self.product.ssl_context()
        )
        try:
            connection.request(
                "POST",
                f"/upload?collection=ada/t&name={name}",
                body,
                {"Authorization": f"Bearer {self.token}", "Content-Type": "multipart/form-data; boundary=b"},
            )
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        else:
            return answer.status
        finally:
            connection.close()


def _lists(product: Product, token: str, ref: str, digest: str) -> bool:
    status, body = product.get(f"/v1/images/{ref}?arch=amd64", headers={"Authorization": f"Bearer {token}"})
    return status == 200 and json.loads(body)["data"]["hash"] == f"sha256.{digest}"


def _kill_at_random(product: Product, victim: str) -> None:
    """Uploads all the time, kills now and then; afterwards every promise is kept."""
    token = product.new_user("ada")
    over = threading.Event()
    uploaders = [Uploader(product, token, number, over) for number in range(3)]
    chance = random.Random(SEED)
    for uploader in uploaders:
        uploader.start()
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 1.5))
            if victim == "core":
                product.kill_core()
            else:
                product.kill()
                product.start(wait=False)
            product.wait_ready(timeout_s=GENEROUS_S)
    finally:
        time.sleep(0.5)
        over.set()
        for uploader in uploaders:
            uploader.join()

    promised = {ref: digest for uploader in uploaders for ref, digest in uploader.promised.items()}
    answers = [status for uploader in uploaders for status in uploader.answers]
    print(
        f"{victim}: {KILLS} kills, {len(answers)} uploads: ",
        {s: answers.count(s) for s in sorted(set(answers))},
    )
    missing = set(promised)
    deadline = time.monotonic() + GENEROUS_S
    while missing and time.monotonic() < deadline:
        missing = {ref for ref in missing if not _lists(product, token, ref, promised[ref])}
    assert promised
    assert missing == set()
    assert set(answers) <= {0, 201, 202, 502, 503, 504}
    assert product.run("registry", "fsck").stdout.strip() == "", (
        "database and store agree, and every digest is right"
    )
    waiting = (product.data_dir / "outbox" / "pending").iterdir()
    # (A record that was being written when the process died was promised to nobody; it is swept after a minute.)
    assert [path for path in waiting if not path.name.startswith(".")] == []
    assert list((product.data_dir / "outbox" / "broken").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["core", "gateway"])
def test_every_promise_is_kept_whenever_a_process_is_killed(product: Product, victim: str) -> None:
    _kill_at_random(product, victim)
    assert product.staging_files() == []


@pytest.mark.slow
def test_every_promise_is_kept_on_s3_too(short_path: Path) -> None:
    with running_seaweed(short_path / "s3") as seaweed:
        settings = seaweed.environ
        with running_product(short_path / "product", settings=settings) as product:
            _kill_at_random(product, "gateway")
            left = json.loads(product.run("gateway", "uploads", "ls", "--json").stdout)
            assert left["uploads"] == [], "what dead uploads had sent was swept at the start"
