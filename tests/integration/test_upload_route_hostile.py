"""Upload routes against clients that mean harm: raw bytes, wrong lengths, wrong endings, wrong names."""

import json
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forms import form, part
from tests.support.route_site import FILE, GOOD, Site, read_answers, running_site, until

LIMITS = {
    "GATEWAY_LIMITS__BODY_IDLE_S": "1.5",
    "GATEWAY_LIMITS__BODY_MIN_RATE": "1000",
    "GATEWAY_LIMITS__BODY_MIN_RATE_AFTER_S": "2",
}
EMPTY = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
EMPTY_FILE = b'--b\r\nContent-Disposition: form-data; name="x"; filename="a"\r\n\r\n\r\n'


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    # Names as they came, for what a client can do with a name.
    names = '\npass_to = "/done"\nfile_fields = ["name", "path", "md5"]\npass_fields = ["."]\ncleanup = ["400-599"]\n'
    with (
        tempfile.TemporaryDirectory(prefix="gw-") as name,
        running_site(Path(name), {"plain": "", "names": names}, settings=LIMITS) as site,
    ):
        yield site


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The site. Whatever a client does, nothing stays, and no upload goes on."""
    running.backend.heard.clear()
    running.backend.answer = None
    yield running
    running.backend.answer = None
    until(lambda: running.stored() == [])
    until(lambda: json.loads(running.send("-/uploads", b"", method="GET")[1]) == {"uploads": []})
    assert running.send("plain", GOOD)[0] == 200


@pytest.mark.parametrize("dribbled", [b"X-A: b\r\n", b"x"], ids=["header lines", "one endless header"])
def test_part_headers_that_trickle_in_are_408(site: Site, dribbled: bytes) -> None:
    """Each byte comes within the idle time; the rate does not."""
    with site.begin("plain", "Content-Length: 100000") as client:
        client.sendall(b"--b\r\nContent-Disposition: form-data; name=x; filename=y\r\n")
        client.settimeout(0.1)
        sent, said, deadline = 0, b"", time.monotonic() + 15
        while not said and time.monotonic() < deadline:
            client.sendall(dribbled[sent % len(dribbled) :][:1])
            sent += 1
            try:
                said = client.recv(1000)
            except TimeoutError:
                continue
    assert said.startswith(b"HTTP/1.1 408 ")
    assert site.backend.forms() == []


@pytest.mark.parametrize(
    "sent",
    [b"", b"--", b"--b\r\n", part(FILE, b"hello")[:60], part(FILE, b"hello"), GOOD[:-1], GOOD[:-4]],
    ids=[
        "nothing",
        "a dash",
        "a delimiter",
        "a header",
        "a file",
        "all but the last byte",
        "all but the end",
    ],
)
def test_a_client_that_falls_silent_anywhere_is_408_and_one_that_leaves_is_forgotten(
    site: Site, sent: bytes
) -> None:
    with site.begin("plain", f"Content-Length: {len(GOOD)}") as client:
        client.sendall(sent)
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    with site.begin("plain", f"Content-Length: {len(GOOD)}") as client:
        client.sendall(sent)
    with site.begin("plain", "Transfer-Encoding: chunked") as client:
        client.sendall(b"%x\r\n" % (len(sent) + 1) + sent)
        client.shutdown(socket.SHUT_WR)
        read_answers(client)
    assert site.backend.forms() == []


@pytest.mark.parametrize("piece", [EMPTY, EMPTY_FILE])
def test_ten_thousand_empty_parts_are_refused_by_their_number(site: Site, piece: bytes) -> None:
    status, body = site.send("plain", piece * 10_000 + b"--b--\r\n")
    assert status == 413
    assert b"more than 100" in body
    assert site.backend.forms() == []


def test_a_length_that_is_too_small_cuts_the_form_and_ends_the_connection(site: Site) -> None:
    inner = b"GET /app/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with site.begin("plain", f"Content-Length: {len(GOOD) - 20}") as client:
        client.sendall(GOOD[:-20] + GOOD[-20:] + inner)
        said = read_answers(client)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b" 200 " not in said
    assert site.backend.heard == []


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: -1",),
        ("Content-Length: 0x10",),
        ("Content-Length: 99999999999999999999999999",),
        ("Content-Length: +5",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
    ],
    ids=" and ".join,
)
def test_a_length_that_two_could_read_differently_is_refused(site: Site, lines: tuple[str, ...]) -> None:
    with site.begin("plain", *lines) as client:
        client.shutdown(socket.SHUT_WR)
        said = read_answers(client)
    assert said[:10] in {b"HTTP/1.1 4", b"HTTP/1.1 5"}
    assert site.backend.heard == []


BOUNDARIES = {
    "data that holds the boundary of the head": (GOOD.replace(b"hello", b"\r\n--bb\r\n--b-\r\n --b"), 200),
    "another boundary": (GOOD.replace(b"--b", b"--c"), 400),
    "an end twice": (form(part(FILE, b"x") + b"--b--\r\n"), 200),
    "an end in the middle": (part(FILE, b"x") + b"--b--\r\n" + GOOD, 200),
    "line feeds alone": (GOOD.replace(b"\r\n", b"\n"), 400),
    "an end with a tail": (GOOD.rstrip() + b"x", 400),
}


@pytest.mark.parametrize(("body", "expected"), BOUNDARIES.values(), ids=BOUNDARIES.keys())
def test_boundaries_mean_one_thing(site: Site, body: bytes, expected: int) -> None:
    status, _ = site.send("plain", body)
    assert status == expected
    assert len(site.backend.forms()) == (status == 200)


NAMES = {
    "../../etc/passwd": "passwd",
    "/etc/passwd": "passwd",
    r"C:\temp\x.sif": "x.sif",
    "..": None,
    ".": None,
    "%2e%2e%2fx": "%2e%2e%2fx",
    "a%0D%0AX-Evil: 1%0D%0A%0D%0A--b--": "a\r\nX-Evil: 1\r\n\r\n--b--",
    'a\\"; name=\\"file1.path': 'a"; name="file1.path',
    "a.sif%00": "a.sif%00",
}


@pytest.mark.parametrize(("sent", "told"), NAMES.items())
def test_no_file_name_leaves_the_folder_or_its_field(site: Site, sent: str, told: str | None) -> None:
    status, _ = site.send("plain", form(part(f'name="file1"; filename="{sent}"', b"hello")))
    assert status in {200, 400}
    for heard in site.backend.forms():
        assert set(heard.fields) <= {f"file1.{n}" for n in ("name", "content_type", "path", "md5", "size")}
        (path,) = heard.fields["file1.path"]
        assert Path(path).resolve().is_relative_to(site.store / "plain")
        assert Path(path).name.isalnum()
        if told is not None:
            assert heard.fields["file1.name"] == [told]


@pytest.mark.parametrize(
    "field",
    ["file1.path", "file1_path", "file1[path", "FILE1.PATH", "file1 path", "file1.path%22", "x\\\\.path"],
)
def test_no_field_is_taken_for_the_gateways_whatever_the_patterns_pass(site: Site, field: str) -> None:
    forged = part(f'name="{field}"', b"/etc/passwd")
    for body in (form(forged, part(FILE, b"hello")), form(part(FILE, b"hello"), forged)):
        site.backend.heard.clear()
        assert site.send("names", body)[0] == 200
        (heard,) = site.backend.forms()
        assert len(heard.fields["file1.path"]) == 1
        assert heard.fields["file1.path"][0].startswith(str(site.store))


def test_a_file_field_that_would_make_anothers_name_is_refused_or_has_a_name_of_its_own(site: Site) -> None:
    twice = form(part(FILE, b"one"), part(FILE, b"two"))
    site.backend.answer = lambda: ("", 500)
    assert site.send("names", twice)[0] == 500
    (heard,) = site.backend.forms()
    assert len(set(heard.fields["file1.path"])) == 2
    assert site.send("names", form(part('name="file1.path"; filename="x"', b"y")))[0] in {400, 500}
    assert len(site.backend.forms()) <= 2


def test_the_clients_own_boundary_never_reaches_the_backend(site: Site) -> None:
    """Who knows the boundary of the rewritten form could write parts of his own into a value."""
    value = b"1\r\n--b\r\nContent-Disposition: form-data; name=file1.path\r\n\r\n/etc/passwd"
    site.backend.answer = lambda: ("", 500)
    site.send("names", form(part('name="q"', value.replace(b"--b", b"-- b")), part(FILE, b"x")))
    (heard,) = site.backend.forms()
    assert heard.content_type != "multipart/form-data; boundary=b"
    assert len(heard.content_type.partition("boundary=")[2]) == 32
    assert heard.fields["file1.path"][0].startswith(str(site.store))
