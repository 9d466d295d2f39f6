"""Owns the proof that real clients are served: Apptainer's own library client, with SQLite and with PostgreSQL.

Refusals are compared word for word with what the client shows to its user.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.library_client import ClientFailed
from tests.support.postgres import running_postgres
from tests.support.product import Product, running_product
from tests.support.sif import make_sif, make_small_sif

MIB = 1 << 20


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def says(message: str) -> str:
    """The whole of what the client prints, for ``pytest.raises(match=...)``."""
    return f"^{re.escape(message)}$"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest) -> Iterator[Product]:
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
            assert not list(Path(folder).rglob("*.sqlite*"))


@pytest.fixture
def sif(tmp_path: Path) -> Path:
    return make_small_sif(tmp_path / "small.sif", says=str(tmp_path))


def test_the_version_lets_clients_use_parts_and_architecture_tags(shared: Product) -> None:
    version = shared.library().run("version")["apiVersion"]
    assert version == "2.0.0-alpha.2" or tuple(map(int, version.split("-")[0].split("."))) > (2, 0, 0)


def test_a_pushed_image_is_pulled_byte_for_byte(shared: Product, sif: Path, tmp_path: Path) -> None:
    client = shared.library(shared.new_user("ada"))
    pushed = client.run("push", "ada/tools/hello", sif, tags="v1,latest", desc="says hello")
    assert pushed["sent"] == sif.stat().st_size
    image = client.run("get", "ada/tools/hello:v1")
    assert image["hash"] == f"sha256.{_sha256(sif)}"
    assert image["size"] == sif.stat().st_size
    assert image["uploaded"] is True
    for command in ("pull", "cpull"):
        assert client.run(command, "ada/tools/hello:latest", tmp_path / command)["size"] == image["size"]
        assert (tmp_path / command).read_bytes() == sif.read_bytes()


def test_a_large_image_goes_in_parts_and_comes_back_in_parallel(shared: Product, tmp_path: Path) -> None:
    big = make_sif(tmp_path / "big.sif", size_bytes=200 * MIB)
    client = shared.library(shared.new_user("bea"))
    client.run("push", "bea/tools/big", big)
    client.run("cpull", "bea/tools/big:latest", tmp_path / "back", conc=4, part=3 * MIB + 17)
    digest = _sha256(big)
    assert _sha256(tmp_path / "back") == digest
    assert client.run("get", "bea/tools/big:latest")["hash"] == f"sha256.{digest}"
    assert shared.rss_mib(peak=True) <= 120


def test_a_thousand_small_ranges_make_the_same_file(shared: Product, tmp_path: Path) -> None:
    image = make_sif(tmp_path / "ranges.sif", size_bytes=10 * MIB)
    client = shared.library(shared.new_user("rangers"))
    client.run("push", "rangers/tools/many", image)
    client.run("cpull", "rangers/tools/many:latest", tmp_path / "back", conc=6, part=10_000)
    assert _sha256(tmp_path / "back") == _sha256(image)


def test_pushing_the_same_image_again_sends_no_bytes(shared: Product, sif: Path) -> None:
    client = shared.library(shared.new_user("cleo"))
    client.run("push", "cleo/tools/hello", sif, tags="v1")
    assert client.run("push", "cleo/tools/hello", sif, tags="v2")["sent"] == 0
    first, second = (client.run("get", f"cleo/tools/hello:{tag}")["id"] for tag in ("v1", "v2"))
    assert first == second


def test_a_tag_moves_to_the_image_pushed_last(shared: Product, sif: Path, tmp_path: Path) -> None:
    newer = make_small_sif(tmp_path / "newer.sif", says="newer")
    client = shared.library(shared.new_user("dora"))
    client.run("push", "dora/tools/hello", sif)
    client.run("push", "dora/tools/hello", newer)
    assert client.run("get", "dora/tools/hello:latest")["hash"] == f"sha256.{_sha256(newer)}"
    by_hash = f"dora/tools/hello:sha256.{_sha256(sif)}"
    client.run("pull", by_hash, tmp_path / "older")
    assert (tmp_path / "older").read_bytes() == sif.read_bytes()


def test_two_architectures_live_under_one_tag(shared: Product, sif: Path, tmp_path: Path) -> None:
    arm = make_small_sif(tmp_path / "arm.sif", arch="arm64", says="arm")
    client = shared.library(shared.new_user("emil"))
    client.run("push", "emil/tools/hello", sif, arch="amd64")
    client.run("push", "emil/tools/hello", arm, arch="arm64")
    for arch, file in (("amd64", sif), ("arm64", arm)):
        assert client.run("get", "emil/tools/hello:latest", arch=arch)["hash"] == f"sha256.{_sha256(file)}"
    with pytest.raises(ClientFailed, match="not found"):
        client.run("pull", "emil/tools/hello:latest", tmp_path / "none", arch="ppc64le")


def test_search_finds_by_name_and_shows_what_the_commands_print(shared: Product, sif: Path) -> None:
    client = shared.library(shared.new_user("finn"))
    client.run("push", "finn/tools/zebrafish", sif, tags="v1", desc="striped")
    (found,) = client.run("search", "zebrafi")["image"]
    assert (found["entityName"], found["collectionName"], found["containerName"]) == (
        "finn",
        "tools",
        "zebrafish",
    )
    assert found["tags"] == ["v1"]
    assert found["description"] == "striped"


def test_a_deleted_image_is_gone(shared: Product, sif: Path) -> None:
    client = shared.library(shared.new_user("gina"))
    client.run("push", "gina/tools/hello", sif, tags="v1")
    client.run("delete", "gina/tools/hello:v1")
    with pytest.raises(ClientFailed, match=says("not found")):
        client.run("get", "gina/tools/hello:v1")
    with pytest.raises(ClientFailed, match=says("not found")):
        client.run("delete", "gina/tools/hello:v1")
    assert client.run("push", "gina/tools/hello", sif, tags="v1")["complete"] is not None
    assert client.run("get", "gina/tools/hello:v1")["uploaded"] is True


def test_a_push_without_or_with_a_wrong_token_is_refused_with_a_sentence(shared: Product, sif: Path) -> None:
    shared.add_user("hugo")
    for token, sentence in (
        ("", "Authentication is needed: send 'Authorization: Bearer TOKEN', or sign in."),
        ("x" * 300, "This token is not known, or was revoked."),
    ):
        with pytest.raises(
            ClientFailed, match=says(f"request did not succeed: {sentence} (401 Unauthorized)")
        ):
            shared.library(token).run("push", "hugo/tools/hello", sif)


def test_a_push_to_what_is_not_yours_is_refused(shared: Product, sif: Path) -> None:
    shared.add_user("ines")
    stranger = shared.library(shared.new_user("jack"))
    refusal = "You may not push to 'ines'. The entity that you own is 'jack'."
    with pytest.raises(ClientFailed, match=says(f"request did not succeed: {refusal} (403 Forbidden)")):
        stranger.run("push", "ines/tools/hello", sif)


def test_a_pull_token_cannot_push(shared: Product, sif: Path) -> None:
    client = shared.library(shared.new_user("kate", scope="pull"))
    with pytest.raises(ClientFailed, match="403"):
        client.run("push", "kate/tools/hello", sif)


def test_what_the_browser_uploads_is_pulled_at_once(shared: Product, sif: Path, tmp_path: Path) -> None:
    token = shared.new_user("lena")
    url = f"{shared.base}/upload?collection=lena/web"
    done = shared.curl(
        "-H", f"Authorization: Bearer {token}", "-F", "name=hello", "-F", "tag=v9", "-F", f"file=@{sif}", url
    )
    (image,) = json.loads(done.stdout)["data"]["images"]
    assert image["sha256"] == _sha256(sif)
    shared.library(token).run("pull", "lena/web/hello:v9", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == sif.read_bytes()


def test_private_images_are_hidden_from_others(shared: Product, sif: Path, tmp_path: Path) -> None:
    owner = shared.library(shared.new_user("mona"))
    owner.run("push", "mona/secret/submarine", sif)
    shared.registry("collection", "private", "mona/secret")
    owner.run("pull", "mona/secret/submarine:latest", tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == sif.read_bytes()
    assert owner.run("search", "submarine")["image"]
    for stranger in (shared.library(), shared.library(shared.new_user("nils"))):
        with pytest.raises(ClientFailed, match=says("not found")):
            stranger.run("get", "mona/secret/submarine:latest")
        for command in ("pull", "cpull"):
            with pytest.raises(ClientFailed, match="not found"):
                stranger.run(command, "mona/secret/submarine:latest", tmp_path / "theirs")
        assert stranger.run("search", "submarine") == {
            "entity": [], "collection": [], "container": [], "image": [],
        }  # fmt: skip
        shared.registry("collection", "public", "mona/secret")
        stranger.run("pull", "mona/secret/submarine:latest", tmp_path / "public")
        shared.registry("collection", "private", "mona/secret")


def test_bytes_that_change_on_their_way_are_no_image(shared: Product, sif: Path, tmp_path: Path) -> None:
    client = shared.library(shared.new_user("oskar"))
    with pytest.raises(ClientFailed, match=says("error uploading image: HTTP status 422")):
        client.run("push", "oskar/tools/small", sif, spoil="true")
    big = make_sif(tmp_path / "big.sif", size_bytes=80 * MIB)
    with pytest.raises(ClientFailed, match=says("object store returned an error: 422")):
        client.run("push", "oskar/tools/big", big, spoil="true")
    for name in ("small", "big"):
        with pytest.raises(ClientFailed, match=says("not found")):
            client.run("get", f"oskar/tools/{name}:latest")
    assert client.run("push", "oskar/tools/small", sif)["sent"] == sif.stat().st_size


def test_the_administrators_message_reaches_every_command(
    product: Product, sif: Path, tmp_path: Path
) -> None:
    client = product.library(product.new_user("olga"))
    client.run("push", "olga/tools/hello", sif)
    product.run("gateway", "maintenance", "on", "--message", "Back at 14:00")
    for words in (
        ("push", "olga/tools/again", sif),
        ("get", "olga/tools/hello:latest"),
        ("search", "hello"),
        ("delete", "olga/tools/hello:latest"),
    ):
        with pytest.raises(ClientFailed, match="Back at 14:00"):
            client.run(*words)
    product.run("gateway", "maintenance", "off")
    client.run("pull", "olga/tools/hello:latest", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == sif.read_bytes()


def test_read_only_maintenance_still_lets_pull(product: Product, sif: Path, tmp_path: Path) -> None:
    client = product.library(product.new_user("paul"))
    client.run("push", "paul/tools/hello", sif)
    product.run("gateway", "maintenance", "on", "--mode", "read-only", "--message", "No pushes today")
    client.run("cpull", "paul/tools/hello:latest", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == sif.read_bytes()
    with pytest.raises(ClientFailed, match="No pushes today"):
        client.run("push", "paul/tools/new", make_small_sif(tmp_path / "new.sif"))


def test_a_full_quota_is_said_before_the_bytes(shared: Product, sif: Path, tmp_path: Path) -> None:
    client = shared.library(shared.new_user("quentin"))
    shared.registry("collection", "quota", "quentin", str(MIB))
    done = client.run("push", "quentin/tools/small", sif)
    assert done["complete"]["quota"] == {"quotaTotal": MIB, "quotaUsage": sif.stat().st_size}
    assert done["complete"]["containerUrl"] == "collections/quentin/tools/small"
    for mib in (2, 70):  # in one body, in parts
        big = make_sif(tmp_path / "big.sif", size_bytes=mib * MIB)
        refusal = (
            "request did not succeed: Quota exceeded: 48.0 KiB of 1.0 MiB used in quentin;"
            f" this needs {mib}.0 MiB more. (413 Request Entity Too Large)"
        )
        with pytest.raises(ClientFailed, match=says(refusal)):
            client.run("push", "quentin/tools/big", big)
        assert not [path for path in shared.blob_files() if _sha256(big) in path.name]


def test_a_frozen_tag_keeps_its_image(shared: Product, sif: Path, tmp_path: Path) -> None:
    client = shared.library(shared.new_user("rosa"))
    client.run("push", "rosa/tools/hello", sif, tags="v1")
    shared.registry("collection", "freeze", "rosa/tools/hello:v1")
    refusal = "creation did not succeed: The tag 'v1' of hello is frozen. Choose another tag, or ask the owner. (409 Conflict)"
    with pytest.raises(ClientFailed, match=says(refusal)):
        client.run("push", "rosa/tools/hello", make_small_sif(tmp_path / "new.sif", says="new"), tags="v1")
    assert client.run("get", "rosa/tools/hello:v1")["hash"] == f"sha256.{_sha256(sif)}"
