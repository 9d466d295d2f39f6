"""Proof that where uploads end stays closed to the world after an import, as it was with nginx."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.flask_backend import FlaskBackend, running_backend
from tests.support.forms import form, part
from tests.support.product import Product, running_product
from tests.support.route_site import FILE, TYPE

NGINX = """
http {{
    include mime.types;
    server {{
        client_max_body_size 0;
        location / {{ proxy_pass http://127.0.0.1:{port}; }}
        location = /done {{ internal; proxy_pass http://127.0.0.1:{port}; }}
        location /closed {{ deny all; }}
        location /upload {{
            upload_pass /done;
            upload_store {store} 1;
            upload_set_form_field $upload_field_name.name "$upload_file_name";
            upload_set_form_field $upload_field_name.path "$upload_tmp_path";
            upload_aggregate_form_field $upload_field_name.md5 "$upload_file_md5";
            upload_set_form_field user "$remote_user";
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class _Moved:
    """The site after its move from nginx."""

    product: Product
    backend: FlaskBackend

    def ask(self, method: str, path: str, body: bytes | None = None) -> int:
        """One request; the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.product.http_port, timeout=20)
        try:
            connection.request(method, path, body, TYPE if body else {})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


def _gateway(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Moved]:
    """What ``gateway import-nginx`` printed, served."""
    folder = tmp_path_factory.mktemp("moved")
    config = folder / "gateway.toml"
    with running_backend(folder / "kept") as backend:
        (folder / "nginx.conf").write_text(NGINX.format(port=backend.port, store=folder / "store"))
        printed = _gateway("import-nginx", str(folder / "nginx.conf"))
        assert printed.returncode == 1
        assert printed.stderr.count("\n") == 2  # mime.types, and the user that nobody knows
        config.write_text(printed.stdout + "\n[tls]\nredirect = false\n")
        with running_product(folder, flags=("--config", str(config))) as product:
            yield _Moved(product, backend)


def test_an_upload_goes_through_and_its_end_is_not_there_for_anybody_else(moved: _Moved) -> None:
    assert moved.ask("POST", "/upload", form(part(FILE, b"hello"))) == 200
    assert len(moved.backend.forms()) == 1
    forged = form(part('name="file1.path"', b"/etc/passwd"), part('name="file1.md5"', b"x"))
    for path in ("/done", "//done", "/%64one", "/x/../done", "/done?a=b", "/closed/x"):
        assert moved.ask("POST", path, forged) == 404, path
        assert moved.ask("GET", path) == 404, path
    assert len(moved.backend.forms()) == 1
    assert moved.ask("GET", "/app/x") == 200


@pytest.mark.parametrize("mode", ["full", "read-only", "uploads-off"])
def test_it_is_not_there_during_maintenance_either(moved: _Moved, mode: str) -> None:
    data = ("--data-dir", str(moved.product.data_dir))
    assert _gateway("maintenance", "on", "--mode", mode, *data).returncode == 0
    try:
        assert moved.ask("GET", "/done") == 404
        assert moved.ask("POST", "/upload", form(part(FILE, b"hello"))) == 503
    finally:
        assert _gateway("maintenance", "off", *data).returncode == 0


def test_the_checks_understand_it(moved: _Moved) -> None:
    config = str(moved.product.data_dir.parent / "gateway.toml")
    said = json.loads(_gateway("check", "--json", "--config", config).stdout)
    text = json.dumps(said)
    assert "route /upload" in text
    assert "route /done" not in text
