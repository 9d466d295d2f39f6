"""Owns the proof that fifty clients may push and pull at once: no 5xx, no tag lost, doubled or mixed up."""

import hashlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.crowd import Seen, server_errors, walk
from tests.support.postgres import running_postgres
from tests.support.product import Product, running_product

CLIENTS = 50
USERS = 5
# Longer by hand: CROWD_S=60 pytest tests/conformance/test_many_clients.py -s
SECONDS = float(os.environ.get("CROWD_S", "8"))


@pytest.fixture(params=["sqlite", "postgresql"])
def busy(request: pytest.FixtureRequest) -> Iterator[Product]:
    """The product on each database."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        if request.param == "sqlite":
            with running_product(Path(folder)) as running:
                yield running
            return
        with running_postgres() as server:
            settings = {"GATEWAY_REGISTRY__DATABASE_URL": server.new_database()}
            with running_product(Path(folder), settings=settings) as running:
                yield running


def check_container(product: Product, user: str, token: str, seen: Seen) -> None:
    """What the registry lists is what its clients were told, all of it and nothing else."""
    container = product.get_json(f"/v1/containers/{user}/crowd/tool", token=token)
    listed = container["archTags"]["amd64"]
    named = {tag: product.get_json(f"/v1/images/{user}/crowd/tool:{tag}")["hash"] for tag in ("latest",)}
    assert listed.keys() == seen.tags.keys() | {"latest"}
    assert named["latest"].removeprefix("sha256.") in seen.digests
    by_id: dict[str, str] = {}
    for tag, digest in seen.tags.items():
        assert by_id.setdefault(listed[tag], digest) == digest, f"{user}: {tag} names another's image"
    assert len(by_id) == len(set(by_id.values())) == len(seen.digests) == len(container["images"])


def test_a_refused_upload_does_not_take_the_bytes_of_an_accepted_one(
    product: Product, tmp_path: Path
) -> None:
    token = product.new_user("twin")
    file = tmp_path / "image.sif"

    def upload(tag: str) -> subprocess.CompletedProcess[str]:
        # The tag comes after the file, so that a frozen one is noticed only when the bytes are stored.
        form = ("-F", "name=tool", "-F", f"file=@{file}", "-F", f"tag={tag}")
        url = f"{product.base}/upload?collection=twin/test"
        return product.curl("-w", "%{http_code}", "-H", f"Authorization: Bearer {token}", *form, url)

    file.write_bytes(b"first" * 100)
    assert upload("frozen").stdout.endswith("201")
    product.registry("collection", "freeze", "twin/test/tool:frozen")
    with ThreadPoolExecutor(4) as pool:
        for number in range(12):
            content = secrets.token_bytes(5000)
            file.write_bytes(content)
            tags = ("frozen", f"v{number}", "frozen", f"w{number}")
            statuses = [answer.stdout[-3:] for answer in pool.map(upload, tags)]
            assert statuses == ["409", "201", "409", "201"]
            digest = hashlib.sha256(content).hexdigest()
            assert [digest in path.name for path in product.blob_files()].count(True) == 1
    assert product.run("registry", "fsck").returncode == 0
    file.write_bytes(b"refused" * 100)
    assert upload("frozen").stdout.endswith("409")
    assert len(product.blob_files()) == 13


def test_fifty_clients_push_and_pull_at_once(busy: Product) -> None:
    users = {name: busy.new_user(name) for name in (f"user{number}" for number in range(USERS))}
    seen = walk(busy, clients=CLIENTS, users=users, seconds=SECONDS)
    assert [line for one in seen.values() for line in one.surprises] == []
    assert sum(server_errors(one) for one in seen.values()) == 0
    for user, token in users.items():
        check_container(busy, user, token, seen[user])
    pushed = sum(len(one.tags) for one in seen.values())
    requests = sum(one.statuses.total() for one in seen.values())
    print(f"{pushed} images pushed and pulled in {SECONDS:g} s by {requests} requests")
    assert pushed >= CLIENTS
    assert busy.run("registry", "fsck").returncode == 0
    assert busy.rss_mib(peak=True) <= 120
