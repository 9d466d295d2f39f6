"""Owns the proof that the keys of S3 can be changed while the registry is in use, and no request notices."""

import http.client
import json
import os
import secrets
import signal
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.product import Product, running_product
from tests.support.seaweed import (
    ACCESS_KEY,
    OLD_ACCESS_KEY,
    OLD_SECRET_KEY,
    SECRET_KEY,
    Seaweed,
    running_seaweed,
)

OLD = (OLD_ACCESS_KEY, OLD_SECRET_KEY)
NEW = (ACCESS_KEY, SECRET_KEY)


def wait_until(is_so: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


class Load:
    """Uploads through the gateway and pulls by the core's links, one after the other in each of some threads."""

    def __init__(self, product: Product, users: list[tuple[str, str]]) -> None:
        self.product = product
        self.users = users
        self.ended = threading.Event()
        self.rounds = dict.fromkeys((name for name, _ in users), 0)

    def run(self, name: str, token: str) -> list[str]:
        """What went wrong."""
        failures: list[str] = []
        number = 0
        while not self.ended.is_set():
            number += 1
            failures += self.round(name, token, number)
            self.rounds[name] = number
        return failures

    def round(self, name: str, token: str, number: int) -> list[str]:
        content = secrets.token_bytes(2000)
        boundary = "b" * 20
        body = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="f{number}.sif"\r\n\r\n'.encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        door = http.client.HTTPSConnection(
            "localhost", self.product.https_port, context=self.product.ssl_context(), timeout=60
        )
        try:
            door.request("POST", f"/upload?collection={name}/load&name=f{number}", body, headers)
            answer = door.getresponse()
            said = answer.read()
            if answer.status != 201:
                return [f"upload: {answer.status} {said!r}"]
            door.request("GET", f"/v1/imagefile/{name}/load/f{number}:latest", headers=headers)
            answer = door.getresponse()
            said = answer.read()
            if answer.status != 303:
                return [f"link: {answer.status} {said!r}"]
            return self.follow(answer.headers["location"], content)
        finally:
            door.close()

    def follow(self, location: str, content: bytes) -> list[str]:
        parts = urllib.parse.urlsplit(location)
        store: http.client.HTTPConnection
        if parts.scheme == "https":  # the gateway itself, where clients do not go to S3
            store = http.client.HTTPSConnection(parts.netloc, context=self.product.ssl_context(), timeout=60)
        else:
            store = http.client.HTTPConnection(parts.netloc, timeout=60)
        try:
            store.request("GET", f"{parts.path}?{parts.query}")
            answer = store.getresponse()
            said = answer.read()
        finally:
            store.close()
        return [] if said == content else [f"pull: {answer.status} {said!r}"]

    def go_on(self) -> None:
        """Wait until every thread has begun and ended at least one more round."""
        before = dict(self.rounds)
        wait_until(lambda: all(self.rounds[name] >= before[name] + 2 for name in before), timeout_s=60)


def answers_with(seaweed: Seaweed, pair: tuple[str, str], folder: Path) -> bool:
    store = seaweed.store("images", folder, access_key=pair[0], secret_key=pair[1])
    try:
        list(store.keys())
    except Exception:
        return False
    finally:
        store.close()
    return True


def signs_with(product: Product, path: str) -> str:
    shown = product.curl(
        "-o", "/dev/null", "-w", "%{redirect_url}", f"{product.base}/v1/imagefile/{path}"
    ).stdout
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(shown).query))
    return query["X-Amz-Credential"].partition("/")[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_changed_under_load_and_no_request_fails(tmp_path: Path, workers: int) -> None:
    access, secret = tmp_path / "access", tmp_path / "secret"

    def write_keys(pair: tuple[str, str]) -> None:
        access.write_text(pair[0])
        secret.write_text(pair[1])

    write_keys(OLD)
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as seaweed:

        def switch(*pairs: tuple[str, str], until: Callable[[], bool]) -> None:
            seaweed.accept_keys(*pairs)
            os.kill(seaweed.pid(), signal.SIGHUP)
            wait_until(until, timeout_s=30)

        def takes(pair: tuple[str, str]) -> bool:
            return answers_with(seaweed, pair, tmp_path / "probe")

        switch(OLD, until=lambda: takes(OLD))
        settings = {
            "GATEWAY_STORAGE__KIND": "s3",
            "GATEWAY_STORAGE__S3__DIRECT": "true",
            "GATEWAY_STORAGE__S3__ACCESS_KEY_FILE": str(access),
            "GATEWAY_STORAGE__S3__SECRET_KEY_FILE": str(secret),
            "MINIO_SERVER": seaweed.endpoint,
            "MINIO_EXTERNAL_SERVER": seaweed.endpoint,
            "MINIO_BUCKET": "images",
            "GATEWAY_SERVER__WORKERS": str(workers),
        }
        with running_product(Path(folder) / "product", settings=settings) as product:
            load = Load(product, [(name, product.new_user(name)) for name in ("ada", "bob", "cy")])
            with ThreadPoolExecutor(len(load.users)) as pool:
                running = [pool.submit(load.run, *user) for user in load.users]
                try:
                    load.go_on()
                    assert signs_with(product, "ada/load/f1:latest") == OLD_ACCESS_KEY
                    switch(OLD, NEW, until=lambda: takes(NEW))
                    load.go_on()
                    write_keys(NEW)
                    os.kill(product.pid, signal.SIGHUP)
                    wait_until(lambda: signs_with(product, "ada/load/f1:latest") == ACCESS_KEY, timeout_s=30)
                    load.go_on()
                    switch(NEW, until=lambda: not takes(OLD))
                    load.go_on()
                finally:
                    load.ended.set()
                failures = [failure for future in running for failure in future.result()]
            assert failures == []
            assert json.loads(product.get("/-/readyz")[1])["reasons"] == {}


class Pairs:
    """A server that takes one pair at a time, as MinIO does with its root user, and the files of the product's keys."""

    def __init__(self, seaweed: Seaweed, folder: Path) -> None:
        self.seaweed = seaweed
        self.folder = folder
        self.files = {
            f"GATEWAY_STORAGE__S3__{name.upper()}_FILE": str(folder / name)
            for name in ("access_key", "secret_key", "previous_access_key", "previous_secret_key")
        }

    def write(self, pair: tuple[str, str], previous: tuple[str, str] = ("", "")) -> None:
        for path, text in zip(self.files.values(), (*pair, *previous), strict=True):
            Path(path).write_text(text)

    def take_only(self, pair: tuple[str, str]) -> None:
        self.seaweed.accept_keys(pair)
        os.kill(self.seaweed.pid(), signal.SIGHUP)
        wait_until(lambda: answers_with(self.seaweed, pair, self.folder / "probe"), timeout_s=30)


def test_a_server_that_takes_one_pair_at_a_time_is_changed_under_load(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as seaweed:
        pairs = Pairs(seaweed, tmp_path)
        pairs.write(OLD)
        pairs.take_only(OLD)
        settings = {
            "GATEWAY_STORAGE__KIND": "s3",
            "MINIO_SERVER": seaweed.endpoint,
            "MINIO_BUCKET": "images",
            **pairs.files,
        }
        with running_product(Path(folder) / "product", settings=settings) as product:

            def reload() -> None:
                read = product.log_text.count("the keys of the store were read again")
                os.kill(product.pid, signal.SIGHUP)
                wait_until(
                    lambda: product.log_text.count("the keys of the store were read again") > read,
                    timeout_s=30,
                )

            load = Load(product, [(name, product.new_user(name)) for name in ("ada", "bob", "cy")])
            with ThreadPoolExecutor(len(load.users)) as pool:
                running = [pool.submit(load.run, *user) for user in load.users]
                try:
                    load.go_on()
                    pairs.write(NEW, previous=OLD)
                    reload()
                    load.go_on()
                    warned = product.run("gateway", "check").stdout
                    pairs.take_only(NEW)
                    load.go_on()
                    pairs.write(NEW)
                    reload()
                    load.go_on()
                finally:
                    load.ended.set()
                failures = [failure for future in running for failure in future.result()]
            assert failures == []
            (line,) = (line for line in warned.splitlines() if "store (s3)" in line)
            assert line.startswith("warn")
            assert "only with the previous pair of keys" in line
            assert "correct it; then remove the previous one" in warned
            assert "previous pair" not in product.run("gateway", "check").stdout
