"""Owns taking over an old registry: both of its storage layouts, its accounts, and every thing that cannot come."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from registry_core.service import identity
from registry_core.service.legacy import Folders, Line, take_over
from registry_core.service.legacy_dump import read_dump
from tests.support.core import Core

ONE, TWO = b"pushed by library" * 20, b"uploaded by browser" * 20
SHA = hashlib.sha256(ONE).hexdigest()
MD5 = hashlib.md5(TWO).hexdigest()


def django_hash(password: str) -> str:
    found = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 1000)
    return f"pbkdf2_sha256$1000$salt${base64.b64encode(found).decode()}"


def record(model: str, pk: int, **fields: Any) -> dict[str, Any]:
    return {"model": model, "pk": pk, "fields": fields}


def dump() -> list[dict[str, Any]]:
    return [
        record(
            "users.user", 1, username="Dinosaur", password=django_hash("extinct again"), is_superuser=True
        ),
        record("users.user", 2, username="bob", password="!", email="bob@x.org"),
        record("main.collection", 1, name="Fossils", owners=[1], contributors=[2], private=True),
        record("main.collection", 2, name="lost", owners=[], contributors=[]),
        record("api.imagefile", 5, datafile=f"/var/www/images/Fossils/bone:v2@{MD5}.sif"),
        record(
            "main.container", 1, name="bone", tag="v1", version=f"sha256.{SHA}", collection=1, frozen=True
        ),
        record("main.container", 2, name="bone", tag="v2", version=MD5, collection=1, image=5),
        record("main.container", 3, name="bone", tag="DUMMY-1234", collection=1),
        record("main.container", 4, name="gone", tag="v1", version=f"sha256.{'e' * 64}", collection=2),
        record("main.container", 5, name="stray", tag="v1", collection=99),
        record("logs.apirequestlog", 1, path="/"),
    ]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    minio, images = tmp_path / "minio", tmp_path / "images"
    for path, content in (
        (minio / "sregistry" / "Fossils" / f"bone:sha256.{SHA}", ONE),
        (images / "Fossils" / f"bone:v2@{MD5}.sif", TWO),
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return Folders(images=images, minio=minio)


def run(core: Core, folders: Folders, *, dry_run: bool = False) -> list[Line]:
    return list(take_over(core.registry, read_dump(dump()), folders, dry_run=dry_run))


def outcomes(lines: list[Line]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for line in lines:
        counted[line.outcome] = counted.get(line.outcome, 0) + 1
    return counted


def test_both_layouts_come_in_with_accounts_and_rights(core: Core, folders: Folders) -> None:
    lines = run(core, folders)
    assert outcomes(lines) == {"made": 5, "kept": 1, "skipped": 1, "note": 5}
    token = core.token("dinosaur", scope="pull")
    for tag, content in (("v1", ONE), ("v2", TWO)):
        image = core.call("GET", f"/v1/images/dinosaur/fossils/bone:{tag}", token=token).data
        assert image["hash"] == f"sha256.{hashlib.sha256(content).hexdigest()}"
        assert image["size"] == len(content)
    assert core.call("GET", "/v1/images/dinosaur/fossils/bone:v1").status == 404
    assert core.ask(by="bob", collection="dinosaur/fossils").status == 200
    assert core.ask(by="alice", collection="dinosaur/fossils").status == 404
    assert core.ask(by="bob", collection="dinosaur/fossils", name="bone", tag="v1").status == 409
    signed_in = identity.sign_in(
        core.registry, name="dinosaur", password="extinct again", address="203.0.113.1"
    )
    assert signed_in.actor.admin


def test_a_second_run_changes_nothing(core: Core, folders: Folders) -> None:
    run(core, folders)
    again = run(core, folders)
    assert outcomes(again) == {"kept": 6, "skipped": 1, "note": 5}


def test_a_dry_run_only_tells(core: Core, folders: Folders) -> None:
    assert outcomes(run(core, folders, dry_run=True))["made"] == 5
    assert core.call("GET", "/v1/entities/dinosaur", by="root").status == 404
    assert list(core.store.keys()) == []


def test_damaged_bytes_are_left_out_and_leave_nothing(core: Core, folders: Folders) -> None:
    assert folders.minio is not None
    (folders.minio / "sregistry" / "Fossils" / f"bone:sha256.{SHA}").write_bytes(ONE[::-1])
    lines = [line for line in run(core, folders) if line.outcome == "skipped"]
    assert any("has the SHA-256" in line.why for line in lines)
    assert not [key for key in core.store.keys() if SHA in key]  # noqa: SIM118 - a store is no dict
    assert list(core.store.uploads()) == []


def test_paths_out_of_the_folders_are_not_followed(core: Core, folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "secret.sif").write_bytes(b"not yours")
    records = dump()
    records[4]["fields"]["datafile"] = "../secret.sif"
    assert folders.images is not None
    (folders.images / "Fossils" / f"bone:v2@{MD5}.sif").unlink()
    lines = list(take_over(core.registry, read_dump(records), folders, dry_run=False))
    assert any(line.outcome == "skipped" and "bone:v2" in line.what for line in lines)


def test_everything_that_changes_its_name_is_told() -> None:
    old = read_dump(dump())
    assert "user 'Dinosaur' is called 'dinosaur' here" in old.remarks
    assert "collection 'Fossils' is called 'fossils' here" in old.remarks
    assert "collection 'lost' has no owner; it goes to 'library'" in old.remarks
    assert any("never uploaded whole" in remark for remark in old.remarks)
    assert any("in no collection" in remark for remark in old.remarks)


def test_what_is_called_the_same_here_stays_two(core: Core, folders: Folders) -> None:
    """A private collection must not be poured into a public one, nor one person's images into another's hands."""
    records = [
        record("users.user", 1, username="Ann", password=django_hash("ann of upper case")),
        record("users.user", 2, username="ann", password=django_hash("ann of lower case")),
        record("main.collection", 1, name="demo", owners=[2]),
        record("main.collection", 2, name="Demo", owners=[2], private=True),
        record("main.collection", 3, name="demo", owners=[1], private=True),
    ]
    for _ in range(2):
        lines = list(take_over(core.registry, read_dump(records), folders, dry_run=False))
    assert "user 'Ann' is called 'ann-2' here: 'ann' is another one" in [line.what for line in lines]
    for name, password in (("ann", "ann of lower case"), ("ann-2", "ann of upper case")):
        signed = identity.sign_in(core.registry, name=name, password=password, address="x")
        assert signed.actor.name == name
    assert core.call("GET", "/v1/collections/ann/demo").status == 200
    for private in ("ann/demo-2", "ann-2/demo"):
        assert core.call("GET", f"/v1/collections/{private}").status == 404
        assert core.call("GET", f"/v1/collections/{private}", by="root").status == 200


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "nul\0"])
def test_a_dump_reads_no_file_outside_of_its_folders(core: Core, folders: Folders, name: str) -> None:
    records = [
        record("main.collection", 1, name=name, owners=[]),
        record("api.imagefile", 5, datafile=f"../../../../../../{name}"),
        record("main.container", 1, name=name, tag="v1", version=f"../{name}", collection=1, image=5),
    ]
    lines = list(take_over(core.registry, read_dump(records), folders, dry_run=False))
    assert [line.outcome for line in lines if line.what.startswith("image")] == ["skipped"]
