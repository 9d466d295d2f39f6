"""Forms as Python's clients make them, and as other clients were seen to send them."""

import io
from collections.abc import Callable

import httpx
import pytest
import requests
import urllib3
from werkzeug.test import EnvironBuilder

from gateway.upload.disposition import parse_boundary
from tests.support.forms import read_form

NAME, DATA = 'tést "q".sif', bytes(range(256)) * 8


def _httpx() -> tuple[str, bytes]:
    made = httpx.Request("POST", "http://x/", data={"tag": "v1"}, files={"file": (NAME, DATA, "a/b")})
    return made.headers["content-type"], made.read()


def _requests() -> tuple[str, bytes]:
    made = requests.Request(
        "POST", "http://x/", data={"tag": "v1"}, files={"file": (NAME, DATA, "a/b")}
    ).prepare()
    assert isinstance(made.body, bytes)
    return str(made.headers["content-type"]), made.body


def _urllib3() -> tuple[str, bytes]:
    body, content_type = urllib3.encode_multipart_formdata({"tag": "v1", "file": (NAME, DATA, "a/b")})
    return content_type, body


def _werkzeug() -> tuple[str, bytes]:
    built = EnvironBuilder(method="POST", data={"tag": "v1", "file": (io.BytesIO(DATA), NAME, "a/b")})
    environ = built.get_environ()
    built.close()
    return environ["CONTENT_TYPE"], environ["wsgi.input"].read()


@pytest.mark.parametrize("make", [_httpx, _requests, _urllib3])
def test_what_a_client_sends_is_what_is_read(make: Callable[[], tuple[str, bytes]]) -> None:
    content_type, body = make()
    boundary = parse_boundary(content_type)
    for step in (1, 100, len(body)):
        field, file = read_form(body, boundary, cuts=range(step, len(body), step))
        assert (field.name, field.filename, field.data) == ("tag", None, b"v1")
        assert (file.name, file.filename, file.data, file.begin.content_type) == ("file", NAME, DATA, "a/b")


def test_werkzeugs_test_client_is_read_but_for_the_quotes_that_it_does_not_escape() -> None:
    content_type, body = _werkzeug()
    body = body.replace(b'"q"', b"%22q%22")
    field, file = read_form(body, parse_boundary(content_type))
    assert (field.data, file.filename, file.data) == (b"v1", NAME, DATA)


def test_a_form_of_dotnet_is_read() -> None:
    body = (
        b"--0f\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=tag\r\n\r\nv1\r\n"
        b"--0f\r\nContent-Disposition: form-data; name=file; filename=x.sif; filename*=utf-8''x.sif\r\n\r\nSIF\r\n--0f--\r\n"
    )
    field, file = read_form(body, parse_boundary('multipart/form-data; boundary="0f"'))
    assert (field.name, field.data, file.filename, file.data) == ("tag", b"v1", "x.sif", b"SIF")
