"""Upload routes whose files go to S3, against a real server."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.s3_memory import Buffers
from gateway.store.s3_records import S3Records
from gateway.upload.route_s3 import S3RouteStore, open_s3_route_store
from gateway.upload.route_store import new_name
from tests.support.forms import form, part
from tests.support.route_site import FILE, GOOD, Site, running_site, until
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, running_seaweed

MIB = 1 << 20
PLACE = "taken/in/here"
# What the application of these tests does with a path, it cannot do with an object: it only says what it heard.
SAYS = '\npass_to = "/app/done"\nfile_fields = ["path", "sha256", "size"]\ncleanup = ["400-599"]\n'


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as server:
        yield server


@pytest.fixture
def site(seaweed: Seaweed, short_path: Path) -> Iterator[Site]:
    settings = {
        "MINIO_SERVER": seaweed.endpoint, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY,
    }  # fmt: skip
    variants = {"s3": SAYS, "folder": ""}
    with running_site(short_path, variants, s3_places={"s3": PLACE}, settings=settings) as running:
        yield running


@pytest.fixture
def store(seaweed: Seaweed, tmp_path: Path) -> Iterator[S3RouteStore]:
    """The same place, to look into it."""
    buffers = Buffers(24 * MIB, part_bytes=seaweed.settings().part_bytes, folder=tmp_path)
    made = open_s3_route_store(PLACE, seaweed.settings(), spool=tmp_path / "spool", buffers=buffers)
    yield made
    made.close()


def _objects(store: S3RouteStore) -> list[str]:
    return [found.name for found in S3Records(store.wire, patience_s=5).list("")]


def test_a_file_goes_to_the_bucket_and_the_backend_hears_where(site: Site, store: S3RouteStore) -> None:
    data = bytes(range(256)) * 80_000  # more than one part
    for body in (form(part(FILE, data)), GOOD):
        assert site.send("s3", body)[0] == 200
    large, small = [heard.fields for heard in site.backend.heard]
    assert large["file1.sha256"] == [hashlib.sha256(data).hexdigest()]
    assert small["file1.size"] == ["5"]
    for fields, content in ((large, data), (small, b"hello")):
        path = fields["file1.path"][0]
        assert path.startswith(f"s3://{PLACE}/")
        key = path.removeprefix("s3://taken/")
        assert S3Records(store.wire, patience_s=5).read(key) == content
        S3Records(store.wire, patience_s=5).delete(key)


def test_nothing_is_in_the_bucket_of_what_the_backend_refused_or_never_heard_of(
    site: Site, store: S3RouteStore
) -> None:
    site.backend.answer = lambda: ("", 422)
    assert site.send("s3", GOOD)[0] == 422
    until(lambda: _objects(store) == [])
    cut = part(FILE, bytes(20 * MIB))
    assert site.send("s3", cut)[0] == 400
    with site.begin("s3", "Content-Length: 99999999") as client:
        client.sendall(cut[: 12 * MIB])
    until(lambda: json.loads(site.send("-/uploads", b"", method="GET")[1]) == {"uploads": []})
    until(lambda: _objects(store) == [] and not store.uploads())


def test_what_is_on_its_way_on_a_route_is_listed_whatever_its_store(site: Site) -> None:
    config = site.product.folder / "gateway.toml"

    def listed() -> dict[str, tuple[bool, bool]]:
        said = site.product.run("gateway", "uploads", "ls", "--json", "--config", config).stdout
        found = json.loads(said)["uploads"]
        return {one["route"]: (one["active"], one["size"] >= 8 * MIB) for one in found}

    body = part(FILE, bytes(40 * MIB))[:-2]
    with site.begin("s3", "Content-Length: 99999999") as one:
        one.sendall(body)
        with site.begin("folder", "Content-Length: 99999999") as other:
            other.sendall(body)
            until(lambda: listed() == {"/s3": (True, True), "/folder": (True, True)})
            for_people = site.product.run("gateway", "uploads", "ls", "--config", config).stdout
            assert "running  /s3\n" in for_people
            assert "2 uploads in progress" in for_people
            site.product.kill()
    assert listed() == {"/s3": (False, True), "/folder": (False, True)}
    site.product.start()
    assert listed() == {}


def test_killing_the_gateway_leaves_nothing_in_the_bucket_after_its_next_start(
    site: Site, store: S3RouteStore
) -> None:
    with site.begin("s3", "Content-Length: 99999999") as client:
        client.sendall(part(FILE, bytes(40 * MIB))[:-2])
        until(store.uploads)
        site.product.kill()
    assert store.uploads()
    site.product.start()
    assert not store.uploads()
    assert _objects(store) == []


def test_a_sweep_takes_old_files_and_nothing_of_others(store: S3RouteStore) -> None:
    records = S3Records(store.wire, patience_s=5)
    records.write("in/here/notes.txt", b"an administrator's")
    writer = store.create(new_name(), size_hint=None)
    writer.write(b"hello")
    writer.seal()
    assert store.sweep(older_than_s=3600) == 0
    assert store.sweep(older_than_s=-3600) == 1  # an hour from now, everything is old
    assert _objects(store) == ["in/here/notes.txt"]
    records.delete("in/here/notes.txt")


def test_a_server_that_is_down_is_503_and_the_backend_hears_nothing(short_path: Path) -> None:
    settings = {
        "MINIO_SERVER": "127.0.0.1:1",
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
    }
    with running_site(short_path, {"s3": SAYS}, s3_places={"s3": PLACE}, settings=settings) as site:
        assert site.send("s3", GOOD)[0] == 503
        assert site.backend.heard == []
