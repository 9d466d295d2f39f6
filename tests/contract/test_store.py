"""Owns the meaning of ``BlobStore``: every store passes these tests, the fake one too."""

import hashlib
import threading

import pytest

from gateway.errors import BlobMissing, NotFound, StoreCorrupt, StoreError
from gateway.store.base import BlobStore, SealedBlob
from gateway.store.keys import blob_key
from tests.support.store_cases import Case, name

DATA = b"a singularity image " * 5000
SHA = hashlib.sha256(DATA).hexdigest()
KEY = blob_key("alice", "tools", "fold", SHA)
OTHER_KEY = blob_key("bob", "tools", "fold", SHA)
PART = 64 * 1024


@pytest.fixture
def store(case: Case) -> BlobStore:
    return case.store


def seal(store: BlobStore, data: bytes = DATA) -> SealedBlob:
    writer = store.create(name(), size_hint=len(data))
    for start in range(0, len(data), 30_000):
        writer.write(data[start : start + 30_000])
    return writer.seal()


def put(store: BlobStore, key: str = KEY, data: bytes = DATA) -> bool:
    return store.place(seal(store, data), sha256=hashlib.sha256(data).hexdigest(), key=key)


def test_an_uncommitted_blob_leaves_nothing(store: BlobStore) -> None:
    writer = store.create(name(), size_hint=100)
    writer.write(b"half")
    writer.discard()
    writer.discard()
    assert list(store.uploads()) == []
    assert list(store.keys()) == []


def test_a_sealed_blob_that_is_discarded_leaves_nothing(store: BlobStore) -> None:
    writer = store.create(name(), size_hint=None)
    writer.write(DATA)
    writer.seal()
    writer.discard()
    assert list(store.uploads()) == []
    assert not store.has(SHA)


def test_a_sealed_blob_is_invisible_until_it_is_placed(store: BlobStore) -> None:
    sealed = seal(store)
    assert sealed.size == len(DATA)
    assert not store.has(SHA)
    assert list(store.keys()) == []
    assert store.place(sealed, sha256=SHA, key=KEY)
    assert store.has(SHA)
    assert list(store.keys()) == [KEY]
    assert list(store.uploads()) == []


def test_a_placed_blob_reads_back_whole_and_in_ranges(case: Case) -> None:
    put(case.store)
    store = case.reopened()
    assert store.stat(KEY).size == len(DATA)
    with store.open(KEY) as whole:
        assert whole.read() == DATA
    with store.open(KEY, offset=7, length=11) as piece:
        assert piece.read() == DATA[7:18]
        assert piece.read() == b""
    with store.open(KEY, offset=len(DATA) - 5) as tail:
        assert tail.read(100) == DATA[-5:]
    with store.open(KEY, offset=100, length=70_000) as pieces:
        assert b"".join(iter(lambda: pieces.read(4096), b"")) == DATA[100:70_100]


def test_an_empty_file_is_a_file(store: BlobStore) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    key = blob_key("alice", "tools", "empty", empty)
    assert put(store, key, b"")
    assert store.stat(key).size == 0
    with store.open(key) as file:
        assert file.read() == b""


def test_a_written_buffer_may_be_reused_at_once(store: BlobStore) -> None:
    buffer = bytearray(b"1" * 70_000)
    writer = store.create(name(), size_hint=None)
    writer.write(memoryview(buffer))
    buffer[:] = b"2" * 70_000
    writer.write(memoryview(buffer)[:10])
    written = b"1" * 70_000 + b"2" * 10
    sha256 = hashlib.sha256(written).hexdigest()
    key = blob_key("alice", "tools", "ring", sha256)
    store.place(writer.seal(), sha256=sha256, key=key)
    with store.open(key) as file:
        assert file.read() == written


def test_placing_again_changes_nothing_and_says_so(store: BlobStore) -> None:
    sealed = seal(store)
    assert store.place(sealed, sha256=SHA, key=KEY) is True
    assert store.place(sealed, sha256=SHA, key=KEY) is False
    with store.open(KEY) as file:
        assert file.read() == DATA


def test_damaged_bytes_are_replaced_for_every_key(case: Case) -> None:
    store, damaged = case.store, b"?" + DATA[1:]
    for key in (KEY, OTHER_KEY):
        store.place(seal(store, damaged), sha256=SHA, key=key)
    store.replace(seal(store), sha256=SHA, key=KEY)
    assert store.link(sha256=SHA, key=OTHER_KEY)
    assert list(store.uploads()) == []
    again = case.reopened()
    for key in (KEY, OTHER_KEY):
        assert again.stat(key).size == len(DATA)
        with again.open(key) as file:
            assert file.read() == DATA
    assert store.collect(older_than_s=0, dry_run=False) == 0
    for key in (KEY, OTHER_KEY):
        store.delete(key)
    assert store.collect(older_than_s=0, dry_run=True) == len(DATA)


def test_only_what_begins_so_is_swept(case: Case) -> None:
    one, other = f"c0b1ed-{name()}", name()
    for staged in (one, other):
        case.leave_behind(staged)
    assert case.store.sweep(parts_older_than_s=0, prefix="c0b1ed-") == 1
    assert [upload.staged for upload in case.store.uploads()] == [other]


def test_equal_bytes_are_stored_once_under_two_keys(store: BlobStore) -> None:
    assert put(store) is True
    assert put(store, OTHER_KEY) is True
    assert put(store, OTHER_KEY) is False
    assert sorted(store.keys()) == [KEY, OTHER_KEY]
    store.delete(KEY)
    store.delete(OTHER_KEY)
    assert store.collect(older_than_s=0, dry_run=True) == len(DATA)


def test_uploads_of_the_same_bytes_at_once_all_succeed(store: BlobStore) -> None:
    outcomes: list[bool] = []

    def upload(number: int) -> None:
        outcomes.append(put(store, blob_key("alice", "tools", f"tool{number % 4}", SHA)))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert len(list(store.keys())) == 4
    assert list(store.uploads()) == []


def test_stored_bytes_can_be_given_one_more_key(store: BlobStore) -> None:
    assert store.link(sha256=SHA, key=KEY) is False
    put(store)
    assert store.link(sha256=SHA, key=OTHER_KEY) is True
    assert store.link(sha256=SHA, key=OTHER_KEY) is True
    with store.open(OTHER_KEY) as file:
        assert file.read() == DATA


def test_a_deleted_key_is_gone_and_deleting_it_again_is_fine(store: BlobStore) -> None:
    put(store)
    store.delete(KEY)
    store.delete(KEY)
    assert list(store.keys()) == []
    with pytest.raises(BlobMissing):
        store.stat(KEY)
    with pytest.raises(BlobMissing):
        store.open(KEY)


def test_bytes_stay_while_one_key_names_them(store: BlobStore) -> None:
    put(store)
    store.link(sha256=SHA, key=OTHER_KEY)
    store.delete(KEY)
    assert store.collect(older_than_s=0, dry_run=False) == 0
    with store.open(OTHER_KEY) as file:
        assert file.read() == DATA


def test_bytes_without_a_key_stay_until_they_are_collected(store: BlobStore) -> None:
    put(store)
    store.delete(KEY)
    assert store.collect(older_than_s=3600, dry_run=False) == 0
    assert store.collect(older_than_s=0, dry_run=True) == len(DATA)
    assert store.has(SHA)
    assert store.link(sha256=SHA, key=KEY)
    assert store.collect(older_than_s=0, dry_run=False) == 0
    store.delete(KEY)
    assert store.collect(older_than_s=0, dry_run=False) == len(DATA)
    assert not store.has(SHA)
    assert store.link(sha256=SHA, key=KEY) is False
    assert put(store) is True


def test_collecting_while_the_same_bytes_are_placed_loses_nothing(store: BlobStore) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def collect() -> None:
        while not stop.is_set():
            try:
                store.collect(older_than_s=0, dry_run=False)
            except Exception as exc:
                failures.append(exc)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for _ in range(30):
            put(store)
            with store.open(KEY) as file:
                assert file.read() == DATA
            store.delete(KEY)
        put(store)
    finally:
        stop.set()
        collector.join()
    assert failures == []
    assert store.has(SHA)
    with store.open(KEY) as file:
        assert file.read() == DATA


@pytest.mark.parametrize(
    "key",
    [
        f"../../etc/passwd:sha256.{SHA}",
        f"alice/tools/../fold:sha256.{SHA}",
        f"alice/tools/fold:sha256.{SHA}/x",
        f"/alice/tools/fold:sha256.{SHA}",
        "alice/tools/fold:sha256.abc",
        f"alice/tools:sha256.{SHA}",
        f"alice/tools/fold\0:sha256.{SHA}",
        f"alice/tools/fold:sha256.{SHA}\n",
        "",
    ],
)
def test_what_is_not_a_key_is_never_found(store: BlobStore, key: str) -> None:
    with pytest.raises(NotFound):
        store.stat(key)
    with pytest.raises(NotFound):
        store.open(key)
    with pytest.raises(NotFound):
        store.delete(key)
    with pytest.raises(NotFound):
        store.link(sha256=SHA, key=key)
    sealed = seal(store)
    with pytest.raises(NotFound):
        store.place(sealed, sha256=SHA, key=key)


def test_a_key_must_name_the_digest_it_gets(store: BlobStore) -> None:
    put(store)
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(BlobMissing):
        store.link(sha256=SHA, key=blob_key("alice", "tools", "fold", other))
    with pytest.raises(BlobMissing):
        store.has("../" + SHA)


def test_what_was_never_stored_is_missing(store: BlobStore) -> None:
    assert not store.has(SHA)
    with pytest.raises(BlobMissing):
        store.stat(KEY)
    with pytest.raises(BlobMissing):
        store.open(KEY)
    with pytest.raises(BlobMissing):
        store.read_staged(name())
    with pytest.raises(BlobMissing):
        store.seal_parts(name(), total_size=1)
    with pytest.raises(BlobMissing):
        store.place(SealedBlob(staged=name(), size=1), sha256=SHA, key=KEY)
    store.discard_staged(name())
    store.delete(KEY)


def test_parts_in_any_order_over_a_restart_make_a_file(case: Case) -> None:
    staged = name()
    starts = range(0, len(DATA), PART)
    for store, start in ((case.store, starts[1]), (case.reopened(), starts[0])):
        part = store.open_part(staged, offset=start, total_size=len(DATA))
        piece = DATA[start : start + PART]
        part.write(memoryview(piece)[:1000])
        part.write(memoryview(piece)[1000:])
        part.close(keep=True)
    store = case.reopened()
    with store.read_staged(staged) as file:
        assert file.read() == DATA
    with store.read_staged(staged, offset=5) as file:
        assert file.read(5) == DATA[5:10]
    sealed = store.seal_parts(staged, total_size=len(DATA))
    assert sealed.size == len(DATA)
    assert store.place(sealed, sha256=SHA, key=KEY) is True
    assert store.place(sealed, sha256=SHA, key=KEY) is False
    assert list(store.uploads()) == []
    with store.open(KEY) as file:
        assert file.read() == DATA


def test_a_part_may_be_sent_again(store: BlobStore) -> None:
    staged = name()
    broken = store.open_part(staged, offset=0, total_size=len(DATA))
    broken.write(b"x" * 500)
    broken.close(keep=False)
    broken.close(keep=False)
    part = store.open_part(staged, offset=0, total_size=len(DATA))
    part.write(DATA)
    part.close(keep=True)
    store.place(store.seal_parts(staged, total_size=len(DATA)), sha256=SHA, key=KEY)
    with store.open(KEY) as file:
        assert file.read() == DATA


def test_parts_that_do_not_add_up_are_not_sealed(store: BlobStore) -> None:
    staged = name()
    part = store.open_part(staged, offset=0, total_size=10)
    part.write(b"12345")
    part.close(keep=True)
    with pytest.raises(StoreCorrupt):
        store.seal_parts(staged, total_size=10)
    store.discard_staged(staged)
    assert list(store.uploads()) == []


def test_uploads_in_progress_are_listed_and_survive_a_sweep(case: Case) -> None:
    writer = case.store.create(name(), size_hint=None)
    writer.write(DATA)
    sealed = seal(case.store)
    assert case.reopened().sweep(parts_older_than_s=0) == 0
    listed = {upload.staged: upload for upload in case.reopened().uploads()}
    assert set(listed) == {writer.staged, sealed.staged}
    assert all(upload.held for upload in listed.values())
    assert case.store.place(sealed, sha256=SHA, key=KEY) is True
    writer.discard()
    assert list(case.store.uploads()) == []


def test_what_a_dead_process_left_is_swept(case: Case) -> None:
    staged = name()
    case.leave_behind(staged)
    assert [(upload.staged, upload.held) for upload in case.store.uploads()] == [(staged, False)]
    assert case.store.sweep(parts_older_than_s=3600) == 1
    assert list(case.store.uploads()) == []
    assert case.store.sweep(parts_older_than_s=3600) == 0


def test_parts_of_a_dead_process_stay_until_nobody_goes_on_with_them(case: Case) -> None:
    staged = name()
    case.leave_behind(staged, parts=True)
    assert case.store.sweep(parts_older_than_s=3600) == 0
    assert [(upload.staged, upload.held) for upload in case.store.uploads()] == [(staged, False)]
    part = case.store.open_part(staged, offset=0, total_size=3)
    assert case.store.sweep(parts_older_than_s=0) == 0
    part.close(keep=True)
    assert case.store.sweep(parts_older_than_s=0) == 1
    assert list(case.store.uploads()) == []


def test_a_name_in_use_is_not_given_twice(store: BlobStore) -> None:
    staged = name()
    writer = store.create(staged, size_hint=None)
    with pytest.raises(StoreError):
        store.create(staged, size_hint=None)
    writer.discard()


def test_check_proves_the_store_and_leaves_nothing(store: BlobStore) -> None:
    assert "store" in store.check()
    assert list(store.uploads()) == []
    assert list(store.keys()) == []
    free = store.free_bytes()
    assert free is None or free > 0
