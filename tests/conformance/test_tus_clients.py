"""Owns the proof that real clients of resumable uploads work: tuspy, and tus-js-client (so Uppy), both protocols."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tusclient.client import TusClient

from tests.support.product import Product
from tests.support.sif import make_small_sif, write_random

MIB: Final = 1 << 20
TUS_JS: Final = Path(__file__).parent / "tus_js"


@pytest.fixture(scope="module")
def token(shared: Product) -> str:
    return shared.new_user("terry")


@pytest.fixture(scope="module")
def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript client, installed as its lock file says."""
    folder = tmp_path_factory.mktemp("tus-js")
    shutil.copytree(TUS_JS, folder, dirs_exist_ok=True)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    return folder


@pytest.fixture
def big(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "big.img"
    write_random(path, 20 * MIB + 12_345)
    yield path
    path.unlink()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored(product: Product, ref: str, token: str) -> str:
    """The digest that the library API lists under a reference."""
    image = product.get_json(f"/v1/images/{ref}?arch=amd64", token=token)
    return str(image["hash"]).removeprefix("sha256.")


def test_tuspy_uploads_in_chunks_and_resumes(
    shared: Product, token: str, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(shared.ca))
    client = TusClient(f"{shared.base}/uploads/", headers={"Authorization": f"Bearer {token}"})
    meta = {"collection": "terry/test", "name": "tuspy", "tag": "v1", "filename": "big.img"}
    with big.open("rb") as file:
        first = client.uploader(file_stream=file, chunk_size=5 * MIB, metadata=meta, upload_checksum=True)
        first.upload(stop_at=10 * MIB)
        second = client.uploader(file_stream=file, chunk_size=5 * MIB, url=first.url, upload_checksum=True)
        assert second.offset == 10 * MIB
        second.upload()
        assert second.offset == big.stat().st_size
    assert stored(shared, "terry/test/tuspy:v1", token) == sha256(big)


def run_js(folder: Path, product: Product, **order: Any) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "upload.mjs", json.dumps({"endpoint": f"{product.base}/uploads/", **order})],
        cwd=folder,
        env={**product.environ, "NODE_EXTRA_CA_CERTS": str(product.ca)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_tus_js_client_uploads_stops_and_resumes(
    shared: Product, token: str, tus_js: Path, big: Path
) -> None:
    meta = {"collection": "terry/test", "name": "js", "filename": "big.img"}
    order = {"file": str(big), "token": token, "metadata": meta, "chunkSize": 3 * MIB}
    first = run_js(tus_js, shared, **order, stopAfter=6 * MIB)
    assert first["accepted"] >= 6 * MIB
    second = run_js(tus_js, shared, **order, uploadUrl=first["url"])
    assert second["image"] == f"sha256:{sha256(big)}"
    assert stored(shared, "terry/test/js:latest", token) == sha256(big)


def test_tus_js_client_sends_a_stream_of_unknown_length(
    shared: Product, token: str, tus_js: Path, big: Path
) -> None:
    meta = {"collection": "terry/test", "name": "js-stream"}
    order = {"file": str(big), "token": token, "metadata": meta, "chunkSize": 3 * MIB}
    done = run_js(tus_js, shared, **order, deferred=True)
    assert done["image"] == f"sha256:{sha256(big)}"


def test_tus_js_client_sends_parts_side_by_side(
    shared: Product, token: str, tus_js: Path, tmp_path: Path
) -> None:
    sif = make_small_sif(tmp_path / "tool.sif", says="parts")
    order = {"file": str(sif), "token": token, "metadata": {"filename": "Tool (1).sif"}, "chunkSize": 100_000}
    endpoint = f"{shared.base}/uploads/?collection=terry/test"
    done = run_js(tus_js, shared, **order, endpoint=endpoint, parallel=3)
    for staged in shared.staging_files():  # the parts are kept for a while
        staged.unlink()
    assert done["image"] == f"sha256:{sha256(sif)}"
    assert stored(shared, "terry/test/tool-1:latest", token) == sha256(sif)


def test_tus_js_client_speaks_the_ietf_protocol(shared: Product, token: str, tus_js: Path, big: Path) -> None:
    order = {"file": str(big), "token": token, "chunkSize": 3 * MIB, "protocol": "ietf-draft-05"}
    endpoint = f"{shared.base}/uploads/?collection=terry/test&name=ietf"
    first = run_js(tus_js, shared, **order, endpoint=endpoint, stopAfter=6 * MIB)
    run_js(tus_js, shared, **order, uploadUrl=first["url"])
    assert stored(shared, "terry/test/ietf:latest", token) == sha256(big)


def test_curl_resumes_an_upload_as_the_documentation_shows(shared: Product, token: str, big: Path) -> None:
    whole = big.stat().st_size
    made = shared.curl(
        "-i", "-X", "POST", "-H", f"Authorization: Bearer {token}", "-H", "Tus-Resumable: 1.0.0",
        "-H", f"Upload-Length: {whole}", f"{shared.base}/uploads/?collection=terry/test&name=curl",
    ).stdout  # fmt: skip
    url = shared.base + next(
        line.split()[1] for line in made.splitlines() if line.lower().startswith("location:")
    )
    words = (
        "-X",
        "PATCH",
        "-H",
        "Tus-Resumable: 1.0.0",
        "-H",
        "Content-Type: application/offset+octet-stream",
    )
    cut = shared.curl(
        *words, "-H", "Upload-Offset: 0", "--limit-rate", "2M", "--max-time", "1", "-T", big, url, check=False
    )
    assert cut.returncode == 28
    looked = shared.curl("-I", "-H", "Tus-Resumable: 1.0.0", url).stdout.lower()
    offset = int(next(line.split()[1] for line in looked.splitlines() if line.startswith("upload-offset:")))
    assert 0 < offset < whole
    with big.open("rb") as file, (big.parent / "rest").open("wb") as rest:
        file.seek(offset)
        shutil.copyfileobj(file, rest)
    done = shared.curl("-i", *words, "-H", f"Upload-Offset: {offset}", "-T", big.parent / "rest", url).stdout
    assert f"image-digest: sha256:{sha256(big)}" in done.lower()
