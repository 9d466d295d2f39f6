"""Upload routes end to end: a Flask application that was written for the nginx upload module, behind the gateway.

Each of the module's ten measured defects has its test here, the other way round.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.forms import form, part
from tests.support.route_site import DOWN, FILE, GOOD, TYPE, Site, running_site, until

DOCS = Path(__file__).parents[2] / "docs" / "upload-routes.md"
VARIANTS = {
    "plain": "",
    "keep": "",
    DOWN: "",
    "small": "max_file_bytes = 5\nmax_total_bytes = 1000\nmax_files = 2",
    "full": "reserve_bytes = 1000000000000000",
    "asked": 'auth_url = "/allow"',
}


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as name,
        running_site(Path(name), VARIANTS) as site,
    ):
        yield site


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The site; after each test nothing may be left in the store."""
    running.backend.heard.clear()
    running.backend.answer = None
    yield running
    assert running.stored() == []


def test_an_application_written_for_the_module_works_unchanged(site: Site) -> None:
    status, body = site.send("plain", GOOD)
    assert status == 200
    fields = json.loads(body)
    path = fields.pop("file1.path")[0]
    assert Path(path).is_relative_to(site.store)
    assert fields == {
        "collection": ["1"],
        "file1.name": ["a.sif"],
        "file1.content_type": ["application/octet-stream"],
        "file1.md5": [hashlib.md5(b"hello").hexdigest()],
        "file1.size": ["5"],
    }
    assert (site.backend.kept / fields["file1.md5"][0]).read_bytes() == b"hello"


def test_a_large_file_arrives_whole_with_its_digest(site: Site) -> None:
    data = bytes(range(256)) * 40_000 + b"\r\n--bX\r\n--"
    status, body = site.send("plain", form(part(FILE, data)))
    assert status == 200
    assert json.loads(body)["file1.md5"] == [hashlib.md5(data).hexdigest()]
    assert (site.backend.kept / hashlib.md5(data).hexdigest()).read_bytes() == data


def test_the_form_is_signed_as_the_documentation_says(site: Site) -> None:
    assert site.send("plain?a=b", GOOD, {**TYPE, "X-Upload-Signature": "v1 1 forged"})[0] == 200
    space: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[0], space)
    key = bytes.fromhex((site.product.data_dir / "secrets" / "routes.key").read_text())
    (heard,) = site.backend.forms()
    header = heard.headers["X-Upload-Signature"]
    checked = (key, header, heard.method, heard.path, heard.content_type)
    assert space["is_from_gateway"](*checked, heard.body)
    assert not space["is_from_gateway"](*checked, heard.body + b" ")


@pytest.mark.parametrize(
    ("status", "stays"), [(200, True), (302, True), (399, True), (400, False), (503, False)]
)
def test_the_backends_status_decides_over_the_file(site: Site, status: int, stays: bool) -> None:
    site.backend.answer = lambda: ("", status)
    assert site.send("keep", GOOD)[0] == status
    if not stays:
        until(lambda: not site.stored())  # the client need not wait for that
    assert [path.read_bytes() for path in site.stored()] == [b"hello"] * stays
    for path in site.stored():
        path.unlink()


def test_a_backend_that_is_down_gets_nothing_and_no_file_stays(site: Site) -> None:
    status, _ = site.send(DOWN, GOOD)
    assert status in {502, 503}


def test_the_question_comes_before_the_first_byte(site: Site) -> None:
    with site.connect() as client:
        client.sendall(
            b"POST /asked HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")
    assert site.backend.forms() == []
    assert site.send("asked", GOOD, {**TYPE, "Authorization": "Bearer good"})[0] == 200
    asked = [heard for heard in site.backend.heard if heard.path == "/allow"]
    assert [heard.body for heard in asked] == [b"", b""]


def test_other_methods_are_refused_and_other_paths_forwarded(site: Site) -> None:
    assert site.send("plain", b"", method="GET")[0] == 405
    assert site.send("app/x", b"", method="GET") == (200, b"shown")


REFUSED = {
    "a cut form": ("plain", part(FILE, b"hello"), 400),
    "no closing dashes": ("plain", part(FILE, b"hello") + b"--b\r\n", 400),
    "a malformed part after a good one": ("plain", part(FILE, b"hello") + part('!"'), 400),
    "an empty body": ("plain", b"", 400),
    "a file over the limit": ("small", form(part(FILE, b"hello!")), 413),
    "a form over the limit": ("small", form(part('name="x"', b"x" * 2000)), 413),
    "defect 10: more files than allowed": ("small", form(*[part(FILE, b"1")] * 3), 413),
    "defect 8: a full disk": ("full", GOOD, 507),
}


@pytest.mark.parametrize(("name", "body", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_form_is_never_passed_with_parts_missing(site: Site, name: str, body: bytes, status: int) -> None:
    for sent in (body, iter([body[:30], body[30:]])):  # with a length, and in chunks
        answered, text = site.send(name, sent)
        assert answered == status
        assert json.loads(text)["error"]["code"] == status
    assert site.backend.forms() == []


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; Boundary=", "multipart/mixed"]
)
def test_defect_1_a_body_is_never_read_as_the_next_request(site: Site, content_type: str) -> None:
    smuggled = b"GET /app/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with site.connect() as client:
        client.sendall(
            b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: " + content_type.encode()
            + b"\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled
        )  # fmt: skip
        answer = b""
        while piece := client.recv(65536):  # until the gateway ends the connection
            answer += piece
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in answer
    assert re.match(rb"HTTP/1\.1 4(00|15) ", answer)
    assert site.backend.heard == []


def test_defect_2_refused_forms_leak_neither_descriptors_nor_files(site: Site) -> None:
    descriptors = Path(f"/proc/{site.product.pid}/fd")
    site.send("plain", b"")
    before = len(list(descriptors.iterdir()))
    for body in (b"", b"x", part(FILE, b"hello") + b"--b\r\nbad\r\n\r\n", b"y" * 70_000) * 5:
        assert site.send("plain", body)[0] == 400
    until(lambda: len(list(descriptors.iterdir())) <= before + 2)


def test_defects_3_and_6_segments_and_session_ids_mean_nothing_on_a_route(site: Site) -> None:
    site.backend.answer = lambda: ("", 200)
    assert site.send("keep", GOOD)[0] == 200
    (victim,) = site.stored()
    for n in range(20):
        headers = {
            "Content-Type": "application/octet-stream", "Session-ID": victim.name,
            "Content-Disposition": 'attachment; filename="x"', "X-Content-Range": f"bytes {2 * n}-{2 * n}/100",
        }  # fmt: skip
        assert site.send("keep", b"E", headers)[0] == 415
    site.send("keep", GOOD.replace(b"hello", b"EVIL!"), {**TYPE, "Session-ID": victim.name})
    assert victim.read_bytes() == b"hello"
    assert len(site.stored()) == 2
    for path in site.stored():
        path.unlink()


def test_defect_4_a_body_without_length_is_stored(site: Site) -> None:
    status, body = site.send("plain", iter([GOOD[:1], GOOD[1:50], GOOD[50:]]))
    assert status == 200
    assert json.loads(body)["file1.size"] == ["5"]


def test_defect_5_options_are_answered(site: Site) -> None:
    assert site.send("plain", b"", {}, method="OPTIONS")[0] == 204


def test_defect_7_no_field_of_a_client_is_taken_for_the_gateways(site: Site) -> None:
    forged = [
        part(f'name="{name}"', b"/etc/passwd")
        for name in ("file1.path", "file1_path", "other.path", "FILE1.PATH", "file1.path[]", "[file1.path]")
    ]
    status, body = site.send("plain", form(*forged, part(FILE, b"hello"), *forged))
    assert status == 200
    assert b"/etc/passwd" not in body
    assert len(json.loads(body)["file1.path"]) == 1


def test_defect_9_no_hash_folder_has_to_exist(site: Site) -> None:
    status, body = site.send("plain", GOOD)
    assert status == 200
    path = Path(json.loads(body)["file1.path"][0])
    assert path.relative_to(site.store / "plain").parts == (path.name[-1], path.name[-3:-1], path.name)


def test_a_client_that_goes_away_in_a_file_leaves_nothing(site: Site) -> None:
    with site.connect() as client:
        head = b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        client.sendall(head + b"Content-Length: 999999\r\n\r\n" + part(FILE, b"hello" * 100_000)[:-2])
        until(lambda: bool(site.stored()))
    until(lambda: not site.stored())
    assert site.backend.forms() == []


def test_a_client_that_goes_away_while_the_backend_works_changes_nothing(site: Site) -> None:
    waiting = []

    def slow() -> tuple[str, int]:
        waiting.append(1)
        until(lambda: len(waiting) > 1)
        return "", 200

    site.backend.answer = slow
    with site.connect() as client:
        head = b"POST /keep HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
        until(lambda: bool(waiting))
    waiting.append(2)
    assert site.send("app/x", b"", method="GET")[0] == 200
    (path,) = site.stored()
    assert path.read_bytes() == b"hello"
    path.unlink()
