"""Tests of the parameter grammar: what is read, what is refused, and nothing in between."""

import pytest

from gateway.errors import BadForm, UnsupportedForm
from gateway.upload.disposition import parse_boundary, parse_disposition

ACCEPTED_BOUNDARIES = {
    "multipart/form-data; boundary=x": b"x",
    "multipart/form-data;boundary=x": b"x",
    "Multipart/Form-DATA; BOUNDARY=x": b"x",
    "multipart/form-data; charset=utf-8; boundary=x": b"x",
    "multipart/form-data; boundary=x; charset=utf-8": b"x",
    "multipart/form-data; boundary=x;": b"x",
    "multipart/form-data; ; boundary=x": b"x",
    'multipart/form-data; boundary="a b"': b"a b",
    'multipart/form-data; boundary="a;b=c"; charset=utf-8': None,
    'multipart/form-data; boundary="a,b=c:(d)"': b"a,b=c:(d)",
    "multipart/form-data; boundary=boundary'()+_,-./:=?": b"boundary'()+_,-./:=?",
    "multipart/form-data;  boundary= spaced ": b"spaced",
    "multipart/form-data; boundary=----WebKitFormBoundaryABC": b"----WebKitFormBoundaryABC",
    f"multipart/form-data; boundary={'a' * 69}": b"a" * 69,
    f"multipart/form-data; boundary={'a' * 70}": b"a" * 70,
}

REFUSED_BOUNDARIES = [
    "multipart/form-data",
    "multipart/form-data;",
    "multipart/form-data; charset=utf-8",
    "multipart/form-data; boundary",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    'multipart/form-data; boundary="x',
    'multipart/form-data; boundary="x "',
    'multipart/form-data; boundary="x\\y"',
    'multipart/form-data; boundary="x"y',
    "multipart/form-data; boundary=x y",
    "multipart/form-data; boundary=x boundary=y",
    "multipart/form-data; boundary=x; boundary=x",
    "multipart/form-data; boundary=x; Boundary=y",
    "multipart/form-data; boundary=x, multipart/form-data; boundary=y",
    "multipart/form-data; boundary=x\x00",
    'multipart/form-data; boundary="x\r\ny"',
    "multipart/form-data; boundary=é",
    "multipart/form-data; boundary=x*y",
    "multipart/form-data; boundary*=utf-8''x",
    "multipart/form-data boundary=x",
    f"multipart/form-data; boundary={'a' * 71}",
    f"multipart/form-data; boundary={'a' * 5000}",
]

OTHER_TYPES = [
    "",
    "multipart/form-dataXYZ; boundary=x",
    "multipart/mixed; boundary=x",
    "application/x-www-form-urlencoded",
    "multipart; boundary=x",
    "; boundary=x",
]


@pytest.mark.parametrize(("content_type", "boundary"), ACCEPTED_BOUNDARIES.items())
def test_a_boundary_is_read_as_rfc_2046_writes_it(content_type: str, boundary: bytes | None) -> None:
    if boundary is None:  # quoted, but with characters that no boundary has
        with pytest.raises(BadForm):
            parse_boundary(content_type)
    else:
        assert parse_boundary(content_type) == boundary


@pytest.mark.parametrize("content_type", REFUSED_BOUNDARIES)
def test_a_boundary_that_could_be_misread_is_refused(content_type: str) -> None:
    with pytest.raises(BadForm):
        parse_boundary(content_type)


@pytest.mark.parametrize("content_type", OTHER_TYPES)
def test_what_is_not_a_form_is_answered_415(content_type: str) -> None:
    with pytest.raises(UnsupportedForm):
        parse_boundary(content_type)


DISPOSITIONS = {
    'form-data; name="a"': ("a", None, None),
    'FORM-DATA; NAME="a"': ("a", None, None),
    "form-data; name=a": ("a", None, None),
    'form-data; name=""': ("", None, None),
    'form-data;name="a";filename="f"': ("a", "f", "f"),
    'form-data; filename="f"; name="a"': ("a", "f", "f"),
    'form-data; name="a"; filename="f"; ': ("a", "f", "f"),
    "form-data; name=file; filename=x.sif; filename*=utf-8''x.sif": ("file", "x.sif", "x.sif"),
    'form-data; name="a"; filename=""': ("a", "", ""),
    'form-data; name="a"; filename="tést.sif"': ("a", "tést.sif", "tést.sif"),
    "form-data; name=a; filename=tést.sif": ("a", "tést.sif", "tést.sif"),
    'form-data; name="a"; filename="文档.pdf"': ("a", "文档.pdf", "文档.pdf"),
    # browsers, curl 7.88, requests, httpx and undici
    'form-data; name="a"; filename="tést %22q%22.sif"': ("a", 'tést "q".sif', 'tést "q".sif'),
    'form-data; name="a%0D%0Ab"; filename="c%0Ad%0De"': ("a\r\nb", "c\nd\re", "c\nd\re"),
    # old curl and Java
    'form-data; name="a"; filename="q\\"q.txt"': ("a", 'q"q.txt', 'q"q.txt'),
    'form-data; name="a"; filename="dir\\\\f.txt"': ("a", "f.txt", "dir\\f.txt"),
    # aiohttp encodes everything; nobody can know that, so it stays as sent
    'form-data; name="a"; filename="t%C3%A9st.sif"': ("a", "t%C3%A9st.sif", "t%C3%A9st.sif"),
    'form-data; name="a"; filename="100%.txt"': ("a", "100%.txt", "100%.txt"),
    'form-data; name="a"; filename="%2e%2e%2f"': ("a", "%2e%2e%2f", "%2e%2e%2f"),
    'form-data; name="a"; filename="a;b.txt"': ("a", "a;b.txt", "a;b.txt"),
    'form-data; name="a"; filename="a=b, c.txt"': ("a", "a=b, c.txt", "a=b, c.txt"),
    'form-data; name="a"; filename="C:\\Users\\new\\f.txt"': ("a", "f.txt", "C:\\Users\\new\\f.txt"),
    'form-data; name="a"; filename="/etc/passwd"': ("a", "passwd", "/etc/passwd"),
    'form-data; name="a"; filename="../../../etc/passwd"': ("a", "passwd", "../../../etc/passwd"),
    'form-data; name="a"; filename="x/"': ("a", "", "x/"),
    'form-data; name="a"; filename=".."': ("a", "", ".."),
    'form-data; name="a"; filename="x/."': ("a", "", "x/."),
    'form-data; name="a"; filename="...."': ("a", "....", "...."),
    'form-data; name="a"; filename="\udce9t\udce9.sif"': ("a", "\ufffdt\ufffd.sif", "\ufffdt\ufffd.sif"),
    'form-data; name="files[]"; filename="f"': ("files[]", "f", "f"),
    'form-data; name="a"; size=5; filename="f"': ("a", "f", "f"),
}

REFUSED_DISPOSITIONS = [
    "",
    "form-data",
    "form-data;",
    'attachment; name="a"',
    'inline; name="a"',
    'form-data name="a"',
    'form-data; name="a" filename="f"',
    'form-data; name="a"filename="f"',
    'form-data; name="a", filename="f"',
    'form-data; name = "a"',
    'form-data; name="a',
    'form-data; name="a"; filename="f',
    'form-data; name="a"; filename="dir\\"',
    "form-data; !!!invalid!!!",
    "form-data; name=",
    "form-data; name=a b",
    "form-data; name='a'b\"",
    'form-data; filename="f"',
    'form-data; name="a"; name="a"',
    'form-data; name="a"; Name="b"',
    'form-data; name="a"; filename="f"; filename="g"',
    "form-data; name=\"a\"; filename*=utf-8''f.txt",
    "form-data; name*=utf-8''a",
    'form-data; name="\udce9"',
]


@pytest.mark.parametrize(("text", "expected"), DISPOSITIONS.items())
def test_a_disposition_means_what_browsers_mean(
    text: str, expected: tuple[str, str | None, str | None]
) -> None:
    found = parse_disposition(text)
    assert (found.name, found.filename, found.filename_as_sent) == expected


@pytest.mark.parametrize("text", REFUSED_DISPOSITIONS)
def test_a_disposition_that_could_be_misread_is_refused(text: str) -> None:
    with pytest.raises(BadForm):
        parse_disposition(text)
