"""What each setting of an upload route does, as its client and its backend see it."""

import hashlib
import json
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.flask_backend import FlaskBackend, running_backend
from tests.support.forms import form, part
from tests.support.route_site import GOOD, TYPE, Site, running_site, until

DATA = bytes(range(256)) * 2000
ALL_DIGESTS = ("md5", "sha1", "sha256", "sha512", "crc32")
VARIANTS = {
    "rate": "max_rate = 400000",
    "crawl": "max_rate = 100000",
    "unix": "",
    "elsewhere": 'auth_url = "http://127.0.0.1:{other}/allow"',
    "dying": "",
    "kept": '\npass_to = "/done"\nfile_fields = ["path"]',
    "args": "pass_args = true",
    "app/own": '\nfile_fields = ["path", "md5"]\npass_fields = ["."]',
    "tame": 'tame_arrays = true\nset_fields = { "$upload_field_name.number" = "$upload_file_number" }',
    "output": "max_output_bytes = 300",
    "digests": f"\npass_to = '/done'\nfile_fields = {['path', *ALL_DIGESTS]}"
    '\naggregate_fields = { "$upload_field_name.upper" = "$upload_file_sha256_uc" }',
}


class Park(Site):
    """A site whose routes have three more backends."""

    unix: FlaskBackend
    other: FlaskBackend
    died: list[bytes]


@contextmanager
def _dying_backend(died: list[bytes]) -> Iterator[int]:
    """Reads the beginning of each request, and is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    died.append(client.recv(1000))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Park]:
    died: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        folder = Path(name)
        with (
            running_backend(folder / "unix-kept", unix=folder / "app.sock") as unix,
            running_backend(folder / "other-kept") as other,
            _dying_backend(died) as port,
        ):
            variants = {name: more.replace("{other}", str(other.port)) for name, more in VARIANTS.items()}
            dying = f"http://127.0.0.1:{port}"
            upstreams = {"unix": f"unix:{folder / 'app.sock'}", "dying": dying, "kept": dying}
            with running_site(folder, variants, upstreams=upstreams) as site:
                park = Park(site.product, site.backend, site.store)
                park.unix, park.other, park.died = unix, other, died
                yield park


@pytest.fixture
def park(running: Park) -> Iterator[Park]:
    for backend in (running.backend, running.unix, running.other):
        backend.heard.clear()
        backend.answer = None
    running.died.clear()
    yield running
    for path in running.stored():  # a failing test shall not fail the next
        path.unlink()


def _file(data: bytes = DATA, name: str = "file1") -> bytes:
    return part(f'name="{name}"; filename="a.sif"', data)


def test_a_client_gets_no_more_than_its_rate(park: Park) -> None:
    began = time.monotonic()
    status, _ = park.send("rate", form(_file(DATA * 2)))
    assert status == 200
    # 1,024,000 bytes at 400,000 a second: 2.56 s, never less. How much more is the machine's affair.
    assert time.monotonic() - began >= 2.5


def test_one_clients_rate_is_not_anothers(park: Park) -> None:
    with park.begin("crawl", "Content-Length: 1000000") as slow:
        slow.sendall(_file(DATA[:300_000])[:-2])
        until(lambda: park.stored("crawl"))
        assert park.send("args", GOOD)[0] == 200
    until(lambda: not park.stored("crawl"))


def test_progress_is_told_to_whoever_has_the_id_and_to_nobody_else(park: Park) -> None:
    ask = "-/uploads?X-Progress-ID="
    with park.begin("crawl?X-Progress-ID=0123456789abcdef", "Content-Length: 1000000") as slow:
        assert json.loads(park.send(f"{ask}fedcba9876543210", b"", method="GET")[1]) == {"state": "starting"}
        slow.sendall(_file(DATA[:300_000])[:-2])

        def known() -> dict[str, Any]:
            said: dict[str, Any] = json.loads(park.send(f"{ask}0123456789abcdef", b"", method="GET")[1])
            return said

        until(lambda: known().get("received", 0) > 0)
        said = known()
        assert said.pop("received") < 1_000_000
        assert said == {"state": "uploading", "size": 1_000_000}
        (row,) = json.loads(park.send("-/uploads", b"", method="GET")[1])["uploads"]  # for administrators
        assert (row["path"], row["progress_id"]) == ("/crawl", "0123456789abcdef")
    until(lambda: known() == {"state": "starting"})


def test_a_backend_at_a_unix_socket_gets_the_form(park: Park) -> None:
    status, body = park.send("unix", GOOD)
    assert status == 200
    assert json.loads(body)["file1.size"] == ["5"]
    assert len(park.unix.forms()) == 1
    assert park.backend.heard == []


@pytest.mark.parametrize(("token", "expected"), [("good", 200), ("known", 403), ("bad", 401)])
def test_another_host_is_asked_and_its_refusal_passed_on(park: Park, token: str, expected: int) -> None:
    headers = {**TYPE, "Authorization": f"Bearer {token}", "X-Original-URI": "/forged"}
    status, answered, body = park.ask("elsewhere?a=b", GOOD, headers)
    assert status == expected
    assert answered.get("WWW-Authenticate") == ('Bearer realm="app"' if expected == 401 else None)
    (asked,) = park.other.heard
    assert (asked.method, asked.path, asked.body) == ("GET", "/allow", b"")
    assert asked.headers["X-Original-Method"] == "POST"
    assert asked.headers["X-Original-Uri"] == "/elsewhere?a=b"
    assert len(park.backend.forms()) == (expected == 200)
    if expected != 200:
        assert json.loads(body)["error"]["code"] == expected
    assert park.stored() == []


@pytest.mark.parametrize(("token", "first"), [("good", b"HTTP/1.1 100 "), ("bad", b"HTTP/1.1 401 ")])
def test_who_expects_100_hears_of_a_refusal_instead(park: Park, token: str, first: bytes) -> None:
    body = form(_file())
    lines = (f"Content-Length: {len(body)}", "Expect: 100-continue", f"Authorization: Bearer {token}")
    with park.begin("elsewhere", *lines) as client:
        said = client.recv(1000)
        assert said.startswith(first)
        if token == "good":
            client.sendall(body)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("route", "stays"), [("dying", 0), ("kept", 1)])
def test_a_backend_that_dies_over_the_form_is_502_and_counts_as_that_status(
    park: Park, route: str, stays: int
) -> None:
    status, body = park.send(route, GOOD)
    assert status == 502
    assert json.loads(body)["error"]["code"] == 502
    assert park.died
    until(lambda: len(park.stored()) == stays)


@pytest.mark.parametrize(
    ("target", "heard"),
    [("args?a=b&c=%20d", "/done?a=b&c=%20d"), ("rate?a=b", "/done"), ("app/own?a=b", "/app/own?a=b")],
)
def test_the_query_goes_with_the_form_where_the_route_says_so(park: Park, target: str, heard: str) -> None:
    park.send(target, GOOD)
    (path,) = [told.path.replace("c= d", "c=%20d") for told in park.backend.heard]
    assert path == heard


def test_arrays_are_tamed_and_files_numbered(park: Park) -> None:
    park.backend.answer = lambda: ("", 200)
    sent = [_file(b"1", "f[]"), _file(b"2", "f[]"), _file(b"3", "g[0]"), part('name="collection[]"', b"x")]
    assert park.send("tame", form(*sent))[0] == 200
    (heard,) = park.backend.forms()
    assert heard.fields["f.number"] == ["1", "2"]
    assert heard.fields["g[0].number"] == ["3"]
    assert len(set(heard.fields["f.path"])) == 2
    assert "collection[]" not in heard.fields


def test_a_form_that_would_be_too_large_for_the_backend_is_413_and_leaves_nothing(park: Park) -> None:
    assert park.send("output", GOOD)[0] == 200
    long = part('name="collection"', b"x" * 300)
    status, _ = park.send("output", form(_file(), long))
    assert status == 413
    assert len(park.backend.forms()) == 1
    until(lambda: park.stored() == [])


def test_every_digest_is_right_in_one_pass(park: Park) -> None:
    park.backend.answer = lambda: ("", 200)
    assert park.send("digests", iter([form(_file())]))[0] == 200
    (heard,) = park.backend.forms()
    for name in ALL_DIGESTS:
        wanted = f"{zlib.crc32(DATA):08x}" if name == "crc32" else hashlib.new(name, DATA).hexdigest()
        assert heard.fields[f"file1.{name}"] == [wanted]
    assert heard.fields["file1.upper"] == [hashlib.sha256(DATA).hexdigest().upper()]
    assert Path(heard.fields["file1.path"][0]).read_bytes() == DATA
