"""The durable state of an upload: what is kept, who may change it, when it ends."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import NotFound
from gateway.resumable.resource import KEPT_S, Answer, Upload, UploadRecords, new_id


@pytest.fixture
def records(tmp_path: Path) -> UploadRecords:
    return UploadRecords(tmp_path / "resumable", durable=True, clock=lambda: 1000.0)


def fresh() -> Upload:
    return Upload(id=new_id(), ticket="token")


def test_an_id_is_hard_to_guess_and_fit_for_the_store() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 40 and set(one) <= set("0123456789abcdef") for one in ids)


def test_what_is_saved_is_loaded_and_private(records: UploadRecords, tmp_path: Path) -> None:
    upload = replace(
        fresh(),
        name="é",
        length=10,
        parts=("a", "b"),
        repr_digest=(("sha256", "ab"),),
        answer=Answer(status=201, location="/x", body="{}"),
    )
    saved = records.create(upload)
    assert saved.expires == 1000.0 + KEPT_S
    assert records.load(upload.id) == saved
    for path in (tmp_path / "resumable").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "resumable").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["", "x", "../etc/passwd", "\0", "0" * 39, "0" * 41, "A" * 40, "0" * 40])
def test_what_is_no_upload_is_not_found(records: UploadRecords, name: str) -> None:
    for call in (records.load, records.try_hold):
        with pytest.raises(NotFound):
            call(name)


def test_one_request_at_a_time_holds_an_upload(records: UploadRecords, tmp_path: Path) -> None:
    upload = records.create(fresh())
    other = UploadRecords(tmp_path / "resumable", durable=False)
    lock = records.try_hold(upload.id)
    assert lock is not None
    assert other.try_hold(upload.id) is None
    assert not records.is_wanted(upload.id)
    other.want(upload.id)
    assert records.is_wanted(upload.id)
    lock.release()
    lock.release()
    second = other.try_hold(upload.id)
    assert second is not None
    other.unwant(upload.id)
    other.unwant(upload.id)
    assert not records.is_wanted(upload.id)
    second.release()


def test_what_is_removed_cannot_be_held(records: UploadRecords) -> None:
    upload = records.create(fresh())
    records.want(upload.id)
    records.remove(upload.id)
    records.remove(upload.id)
    with pytest.raises(NotFound):
        records.try_hold(upload.id)


@pytest.mark.parametrize(("age_s", "is_there"), [(0, True), (KEPT_S, True), (KEPT_S + 1, False)])
def test_an_upload_lives_for_a_day_after_its_last_change(
    records: UploadRecords, tmp_path: Path, age_s: float, is_there: bool
) -> None:
    upload = records.create(fresh())
    dropped: list[str] = []
    records.clock = lambda: 1000.0 + age_s
    assert records.sweep(dropped.append) == (0 if is_there else 1)
    assert dropped == ([] if is_there else [upload.id])
    assert len(list((tmp_path / "resumable").iterdir())) == (2 if is_there else 0)
    if is_there:
        records.load(upload.id)


def test_what_is_held_is_not_swept(records: UploadRecords) -> None:
    upload = records.create(fresh())
    records.clock = lambda: 1e9
    lock = records.try_hold(upload.id)
    assert lock is not None
    assert records.sweep(lambda _: None) == 0
    lock.release()
    assert records.sweep(lambda _: None) == 1


def test_what_a_crash_left_half_written_is_swept_when_it_is_old(tmp_path: Path) -> None:
    records = UploadRecords(tmp_path / "resumable", durable=True)
    assert records.sweep(lambda _: None) == 0  # no folder yet
    upload = records.create(fresh())
    folder = tmp_path / "resumable"
    (folder / f"{upload.id}.json").rename(folder / f"{upload.id}.json.00ff")
    (folder / "notes.txt").write_text("an administrator's")
    assert records.sweep(lambda _: None) == 0
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    assert records.sweep(lambda _: None) == 1
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_when_an_upload_is_whole() -> None:
    assert Upload(id="", ticket="", length=0).is_whole
    assert Upload(id="", ticket="", length=5, offset=5).is_whole
    assert not Upload(id="", ticket="", length=5, offset=4).is_whole
    assert not Upload(id="", ticket="", length=None, offset=4).is_whole
    assert not Upload(id="", ticket="", length=5, offset=5, is_closed=False).is_whole
