"""Owns what is known of the store of a gateway that runs, and of one that does not."""

import shutil
from pathlib import Path

from gateway.settings import Settings
from gateway.store.running import StoreNote, other_store


def made(folder: Path, kind: str, bucket: str = "images") -> Settings:
    s3 = {"bucket": bucket, "secret_key": "hush", "access_key": "hushtoo"}
    return Settings.model_validate(
        {"server": {"data_dir": folder}, "storage": {"kind": kind, "s3": s3}},
    )


def test_other_settings_than_those_of_the_running_gateway_are_told(tmp_path: Path) -> None:
    assert other_store(made(tmp_path, "disk")) == ""
    note = StoreNote(made(tmp_path, "s3"))
    assert other_store(made(tmp_path, "s3")) == ""
    said = other_store(made(tmp_path, "disk"))
    assert "keeps its images in S3 (bucket images)" in said
    assert "say on disk" in said
    assert "bucket others" in other_store(made(tmp_path, "s3", "others"))
    (file,) = (tmp_path / "run").iterdir()
    assert "hush" not in file.read_text()
    note.close()
    assert other_store(made(tmp_path, "disk")) == ""


def test_the_note_is_that_of_the_newest_process(tmp_path: Path) -> None:
    old, new = StoreNote(made(tmp_path, "disk")), StoreNote(made(tmp_path, "s3"))
    assert other_store(made(tmp_path, "s3")) == ""
    old.close()
    assert other_store(made(tmp_path, "disk"))
    new.close()


def test_a_note_that_says_nothing_counts_for_nothing(tmp_path: Path) -> None:
    note = StoreNote(made(tmp_path, "s3"))
    shutil.copy(tmp_path / "run" / "store.json", tmp_path / "saved")
    with (tmp_path / "run" / "store.json").open("r+") as file:
        file.write("}")
    assert other_store(made(tmp_path, "disk")) == ""
    note.close()
    shutil.copy(
        tmp_path / "saved", tmp_path / "run" / "store.json"
    )  # the run folder of a machine that crashed
    assert other_store(made(tmp_path, "disk")) == ""
