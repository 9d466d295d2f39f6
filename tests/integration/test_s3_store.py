"""Owns what only the S3 store promises, against a real server: large files, restarts, keys, certificates."""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from gateway.errors import StoreCorrupt, StoreDown
from gateway.settings import Settings
from gateway.store.base import BlobStore
from gateway.store.disk import DiskStore
from gateway.store.keys import blob_key
from gateway.store.migrate import migrate
from gateway.store.opening import open_store
from gateway.store.s3_store import S3Store
from tests.support.seaweed import (
    ACCESS_KEY,
    OLD_ACCESS_KEY,
    OLD_SECRET_KEY,
    SECRET_KEY,
    Seaweed,
    running_seaweed,
)

MIB = 1 << 20


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_seaweed(Path(folder)) as server:
        yield server


@pytest.fixture
def bucket() -> str:
    return f"images-{os.urandom(4).hex()}"


@pytest.fixture
def store(seaweed: Seaweed, bucket: str, tmp_path: Path) -> Iterator[S3Store]:
    made = S3Store(seaweed.settings(bucket=bucket), spool=tmp_path / "spool", buffer_bytes=24 * MIB)
    yield made
    made.close()


def some_bytes(size: int) -> bytes:
    return os.urandom(MIB) * (size // MIB) + os.urandom(size % MIB)


def key_of(data: bytes) -> str:
    return blob_key("alice", "tools", "fold", hashlib.sha256(data).hexdigest())


def upload(store: BlobStore, data: bytes, *, size_hint: int | None) -> str:
    writer = store.create(os.urandom(8).hex(), size_hint=size_hint)
    for start in range(0, len(data), 700_001):
        writer.write(memoryview(data)[start : start + 700_001])
    key = key_of(data)
    assert store.place(writer.seal(), sha256=key[-64:], key=key)
    return key


def read(store: BlobStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


def objects(store: S3Store) -> list[str]:
    return sorted(found.name.partition("/")[0] for found in store._records.list(""))


@pytest.mark.parametrize("size_hint", [None, 40 * MIB + 3])
def test_a_large_file_goes_in_parts_and_reads_back(store: S3Store, size_hint: int | None) -> None:
    data = some_bytes(40 * MIB + 3)
    key = upload(store, data, size_hint=size_hint)
    assert store.stat(key).size == len(data)
    assert read(store, key) == data
    with store.open(key, offset=13 * MIB - 5, length=2 * MIB) as piece:
        assert piece.read() == data[13 * MIB - 5 : 15 * MIB - 5]
    assert list(store._multiparts.list("objects/")) == []
    assert objects(store) == ["blobs", "digests", "objects"]


def test_eight_uploads_at_once_share_the_memory(store: S3Store) -> None:
    files = [some_bytes(17 * MIB + number) for number in range(8)]
    most = 0
    take = store._multiparts.buffers.take

    def watched(size: int, **kwargs: object) -> object:
        nonlocal most
        memory = take(size, **kwargs)  # type: ignore[arg-type]
        most = max(most, store._multiparts.buffers._used)
        return memory

    store._multiparts.buffers.take = watched  # type: ignore[method-assign, assignment]
    threads = [
        threading.Thread(target=upload, args=(store, data), kwargs={"size_hint": None}) for data in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [read(store, key_of(data)) == data for data in files] == [True] * 8
    # Half of the default, or the 5 MiB that S3 makes each of the eight hold.
    assert most <= 8 * 5 * MIB + 24 * MIB
    assert store._multiparts.buffers._used == 0


def test_a_discarded_upload_leaves_no_part(store: S3Store) -> None:
    writer = store.create("ab", size_hint=None)
    writer.write(some_bytes(20 * MIB))
    writer.discard()
    assert list(store._multiparts.list("objects/")) == []
    assert objects(store) == []
    assert list(store.uploads()) == []


def test_a_placed_upload_survives_discard_and_sweep(store: S3Store) -> None:
    data = some_bytes(6 * MIB)
    writer = store.create("ab", size_hint=None)
    writer.write(data)
    key = key_of(data)
    store.place(writer.seal(), sha256=key[-64:], key=key)
    writer.discard()
    store.discard_staged("ab")
    # As if the process had died between the last two lines of place().
    store._alive.create("ab", size_hint=None).abandon()
    assert store.sweep(parts_older_than_s=0) == 1
    assert read(store, key) == data


def test_parts_of_a_killed_process_are_aborted_by_the_sweep(
    store: S3Store, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    code = f"""
import os
from pathlib import Path
from gateway.settings import S3
from gateway.store.s3_store import S3Store
settings = S3(endpoint={seaweed.endpoint!r}, bucket={bucket!r}, access_key={ACCESS_KEY!r}, secret_key={SECRET_KEY!r})
store = S3Store(settings, spool=Path({str(tmp_path / "spool")!r}), buffer_bytes=12 << 20)
writer = store.create("ab", size_hint=None)
writer.write(bytes(22 << 20))
writer._sender.finish()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [upload.size for upload in store.uploads()] == [20 * MIB]
    assert len(list(store._multiparts.list("objects/"))) == 1
    assert store.sweep(parts_older_than_s=3600) == 1
    assert list(store._multiparts.list("objects/")) == []
    assert list(store.uploads()) == []


@pytest.mark.parametrize(
    "cuts",
    [
        [3 * MIB, 10 * MIB, 10 * MIB + 1, 19 * MIB],
        [1, 2, 3, 4],
        [12 * MIB],
        [21 * MIB],
        [6 * MIB, 12 * MIB, 18 * MIB],
        [],
    ],
)
def test_requests_may_end_at_any_byte(store: S3Store, cuts: list[int]) -> None:
    data = some_bytes(22 * MIB + 5)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        part = store.open_part("ab", offset=start, total_size=len(data))
        part.write(memoryview(data)[start:end])
        part.close(keep=True)
    with store.read_staged("ab") as file:
        assert file.read() == data
    key = key_of(data)
    assert store.place(store.seal_parts("ab", total_size=len(data)), sha256=key[-64:], key=key)
    assert read(store, key) == data
    assert objects(store) == ["blobs", "digests", "objects"]


def test_parts_of_a_push_may_come_in_any_order_and_twice(store: S3Store) -> None:
    data = some_bytes(22 * MIB + 5)
    starts = list(range(0, len(data), 8 * MIB))
    for start in [*reversed(starts), starts[1]]:
        part = store.open_part("ab", offset=start, total_size=len(data))
        part.write(memoryview(data)[start : start + 8 * MIB])
        part.close(keep=True)
    key = key_of(data)
    assert store.place(store.seal_parts("ab", total_size=len(data)), sha256=key[-64:], key=key)
    assert read(store, key) == data


def test_what_is_sent_again_otherwise_takes_the_place_of_what_was_kept(store: S3Store) -> None:
    data = some_bytes(22 * MIB + 5)
    other = store.open_part("ab", offset=0, total_size=len(data))
    other.write(some_bytes(13 * MIB))
    other.close(keep=True)
    for start, end in ((0, 7 * MIB), (7 * MIB, len(data))):
        part = store.open_part("ab", offset=start, total_size=len(data))
        part.write(memoryview(data)[start:end])
        part.close(keep=True)
    key = key_of(data)
    store.place(store.seal_parts("ab", total_size=len(data)), sha256=key[-64:], key=key)
    assert read(store, key) == data


def test_a_part_that_was_not_kept_is_missed(store: S3Store) -> None:
    data = some_bytes(16 * MIB)
    for start, keep in ((0, True), (8 * MIB, False)):
        part = store.open_part("ab", offset=start, total_size=len(data))
        part.write(memoryview(data)[start : start + 8 * MIB])
        part.close(keep=keep)
    with pytest.raises(StoreCorrupt):
        store.seal_parts("ab", total_size=len(data))
    store.discard_staged("ab")
    assert objects(store) == []
    assert list(store._multiparts.list("objects/")) == []


def test_a_server_that_is_killed_and_comes_back_costs_no_upload_and_no_download(
    store: S3Store, seaweed: Seaweed
) -> None:
    old = some_bytes(12 * MIB)
    old_key = upload(store, old, size_hint=None)
    data = some_bytes(30 * MIB)
    writer = store.create("ab", size_hint=None)
    writer.write(memoryview(data)[: 11 * MIB])
    with store.open(old_key) as download:
        first = download.read(MIB)
        seaweed.stop()
        back = threading.Timer(0.5, seaweed.start)
        back.start()
        writer.write(memoryview(data)[11 * MIB :])
        back.join()
        assert first + download.read() == old
    key = key_of(data)
    assert store.place(writer.seal(), sha256=key[-64:], key=key)
    assert read(store, key) == data


def test_all_blobs_move_from_disk_to_s3_and_back(store: S3Store, tmp_path: Path) -> None:
    disk = DiskStore(tmp_path / "disk", reserve_bytes=0, fsync=False)
    files = [some_bytes(11 * MIB), some_bytes(5)]
    keys = [upload(disk, data, size_hint=None) for data in files]
    disk.link(sha256=keys[1][-64:], key=blob_key("bob", "tools", "fold", keys[1][-64:]))
    there = migrate(disk, store)
    assert (there.copied, there.linked, there.damaged) == (2, 1, [])
    assert migrate(disk, store).present == 3
    returned = DiskStore(tmp_path / "returned", reserve_bytes=0, fsync=False)
    assert migrate(store, returned).copied == 2
    assert [read(returned, key) for key in keys] == files


def test_a_server_that_is_down_is_said_at_once_and_does_not_stop_a_start(
    seaweed: Seaweed, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {
            "server": {"data_dir": tmp_path},
            "storage": {"kind": "s3", "s3": seaweed.settings().model_dump() | {"endpoint": "127.0.0.1:1"}},
        }
    )
    store = open_store(settings)
    with pytest.raises(StoreDown) as refusal:
        store.create("ab", size_hint=None)
    assert refusal.value.retry_after_s
    for call in (
        lambda: store.stat(key_of(b"")),
        lambda: store.open(key_of(b"")),
        lambda: store.has("0" * 64),
        store.check,
        lambda: list(store.keys()),
    ):
        with pytest.raises(StoreDown):
            call()
    store.discard_staged("ab")
    assert list(store.uploads()) == []


def test_keys_are_rotated_without_a_failed_request(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        server = Seaweed(Path(folder))
        server.accept_keys((OLD_ACCESS_KEY, OLD_SECRET_KEY))
        server.start()
        try:
            rotating = server.settings(previous_access_key=OLD_ACCESS_KEY, previous_secret_key=OLD_SECRET_KEY)
            store = S3Store(rotating, spool=tmp_path / "spool", buffer_bytes=24 * MIB)
            first = upload(store, some_bytes(11 * MIB), size_hint=None)
            server.stop()
            server.accept_keys((ACCESS_KEY, SECRET_KEY))
            server.start()
            upload(store, some_bytes(11 * MIB), size_hint=None)
            assert len(read(store, first)) == 11 * MIB
            store.close()
            refused = S3Store(
                server.settings(secret_key="wrong"), spool=tmp_path / "spool", buffer_bytes=24 * MIB
            )
            with pytest.raises(StoreDown, match="SignatureDoesNotMatch"):
                refused.check()
            refused.close()
        finally:
            server.stop()


def test_a_server_with_a_certificate_of_its_own_ca(tmp_path: Path) -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in leaf.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as folder,
        running_seaweed(Path(folder), certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem") as server,
    ):
        trusting = server.settings(ssl=True, ca_file=tmp_path / "ca.pem")
        store = S3Store(trusting, spool=tmp_path / "spool", buffer_bytes=24 * MIB)
        data = some_bytes(13 * MIB)
        assert read(store, upload(store, data, size_hint=len(data))) == data
        store.close()
        wary = S3Store(
            server.settings(ssl=True, ca_file=tmp_path / "other.pem"), spool=tmp_path, buffer_bytes=24 * MIB
        )
        with pytest.raises(StoreDown, match="certificate"):
            wary.check()
        wary.close()
