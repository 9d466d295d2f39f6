"""Properties of the decoder over generated forms: any content, any boundary, any cut."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import ClientError
from gateway.upload.disposition import parse_boundary
from gateway.upload.form import FormLimits
from tests.support.forms import read_form

BCHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'()+_,-./:=?"
boundaries = st.text(BCHARS + " ", min_size=1, max_size=70).filter(lambda text: not text.endswith(" "))
# Names as HTML sends them: CR, LF and quotes escaped, a backslash raw. What cannot be told apart is left out.
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\%/"), max_size=20
).flatmap(lambda text: st.just(text) | st.just(f'{text}"\r\n'))
LIMITS = FormLimits(fields=10, files=10, field_bytes=10_000)
# Bytes that matter to the decoder come often; the rest is noise.
noise = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"b", b"\r\n--", b"\r\n--b", b" ", b"X", b"\0"])
    | st.binary(max_size=5),
    max_size=30,
).map(b"".join)


def _escaped(name: str) -> bytes:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode()


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, bytes, list[tuple[str, str | None, bytes]]]:
    """A body, its boundary, and what is in it."""
    boundary = draw(boundaries).encode()
    delimiter = b"\r\n--" + boundary
    parts: list[tuple[str, str | None, bytes]] = []
    body = b""
    for _ in range(draw(st.integers(0, 4))):
        name, filename = draw(names), draw(st.none() | names.filter(bool))
        data = draw(noise) + draw(st.sampled_from([b"", delimiter[:-1], delimiter[:3], delimiter + b"X"]))
        if any(delimiter + end in data for end in (b"\r", b"\n", b"-", b" ", b"\t")) or data.endswith(
            delimiter
        ):
            data = b""
        parts.append((name, filename, data))
        file_part = b"" if filename is None else b'; filename="' + _escaped(filename) + b'"'
        head = b'Content-Disposition: form-data; name="' + _escaped(name) + b'"' + file_part
        body += b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"
    return body + b"--" + boundary + b"--\r\n", boundary, parts


@given(forms(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_form_made_is_the_form_read(
    made: tuple[bytes, bytes, list[tuple[str, str | None, bytes]]], data: st.DataObject
) -> None:
    body, boundary, parts = made
    content_type = f'multipart/form-data; boundary="{boundary.decode()}"'
    assert parse_boundary(content_type) == boundary
    size = data.draw(st.integers(1, len(body)), "block size")
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8), "cuts")
    for places in (cuts, range(size, len(body), size)):
        found = read_form(body, boundary, cuts=places, limits=LIMITS)
        assert [(p.name, p.begin.filename_as_sent, p.data) for p in found] == parts


@given(noise, st.data())
@settings(max_examples=500, deadline=None)
@example(b"--b--", None)
def test_any_bytes_are_read_or_refused_alike_in_every_cut(body: bytes, data: st.DataObject | None) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n'
    for whole in (body, head + body, head + body + b"\r\n--b--"):
        expected = _outcome(whole, [])
        assert _outcome(whole, range(1, len(whole))) == expected
        if data is not None:
            cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=4))
            assert _outcome(whole, cuts) == expected


def _outcome(body: bytes, cuts: list[int] | range) -> object:
    try:
        return [(p.name, p.filename, p.data) for p in read_form(body, cuts=cuts, limits=LIMITS)]
    except ClientError as refusal:
        return str(refusal)
