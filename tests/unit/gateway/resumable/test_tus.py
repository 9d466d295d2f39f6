"""tus heads and answers without a socket."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadUpload, GatewayError, UnsupportedProtocol
from gateway.http.head import NO_BODY, Chunked, Fields, Framing, RequestHead, Sized
from gateway.resumable.resource import Answer, Upload
from gateway.resumable.tus import Tus, read_metadata, require_version

ID = "0123456789abcdef" * 2 + "01234567"
OFFSET = ("content-type", "application/offset+octet-stream")


def head(
    method: str, *fields: tuple[str, str], framing: Framing = NO_BODY, target: str = "/uploads/"
) -> RequestHead:
    return RequestHead(
        method=method, target=target, fields=Fields((("host", "r.example"), *fields)), framing=framing
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("a", {"a": ""}),
        ("a ", {"a": ""}),
        ("a YQ==", {"a": "a"}),
        ("a YQ==,b Yg==", {"a": "a", "b": "b"}),
        ("a YQ== , b Yg==", {"a": "a", "b": "b"}),
        ("n w6k=", {"n": "é"}),
        ("n /w==", {"n": "\ufffd"}),
    ],
)
def test_metadata_is_read(text: str, value: dict[str, str]) -> None:
    assert read_metadata(text) == value


@pytest.mark.parametrize(
    "text", [",", "a,", "a YQ", "a YQ== x", "a a", "é YQ==", "a YQ==,a", "a\tb YQ==", " , "]
)
def test_metadata_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadUpload):
        read_metadata(text)


@given(st.dictionaries(st.from_regex(r"[!-+\--~]{1,12}", fullmatch=True), st.text(max_size=30), max_size=5))
def test_metadata_reads_as_it_was_written(value: dict[str, str]) -> None:
    pairs = [
        f"{key} {base64.b64encode(text.encode('utf-8', 'replace')).decode()}" for key, text in value.items()
    ]
    expected = {key: text.encode("utf-8", "replace").decode() for key, text in value.items()}
    assert read_metadata(",".join(pairs)) == expected


@given(st.text(max_size=40))
def test_no_metadata_breaks_the_reader(text: str) -> None:
    try:
        read_metadata(text)
    except BadUpload:
        pass


@pytest.mark.parametrize("fields", [(), (("tus-resumable", "1.0"),), (("tus-resumable", "1.0.0"),) * 2])
def test_only_this_very_version_is_spoken(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(UnsupportedProtocol) as caught:
        require_version(head("HEAD", *fields))
    assert ("tus-version", "1.0.0") in caught.value.headers
    require_version(head("HEAD", ("tus-resumable", "1.0.0")))


def test_where_to_comes_from_the_query_before_the_metadata() -> None:
    said = {"collection": "m/m", "name": "M", "tag": "t", "filename": "f.sif"}
    meta = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
    request = head(
        "POST", ("upload-length", "5"), ("upload-metadata", meta), target="/uploads?collection=q/q&tag="
    )
    target = Tus().read_creation(request).target
    assert (target.collection, target.name, target.tag, target.filename) == ("q/q", "M", "", "f.sif")


def test_a_name_that_is_only_the_files_name_is_none() -> None:
    meta = "name VG9vbCAoMSkuc2lm,filename VG9vbCAoMSkuc2lm"
    assert (
        Tus().read_creation(head("POST", ("upload-length", "5"), ("upload-metadata", meta))).target.name == ""
    )


@pytest.mark.parametrize(
    ("framing", "fields", "names"),
    [
        (Sized(3), (), ()),
        (Sized(3), (("upload-checksum", "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),), ("sha1",)),
        (Sized(3), (("trailer", "Upload-Checksum"),), ()),
        (Chunked(), (("trailer", "x, UPLOAD-CHECKSUM"),), ("sha1", "sha256")),
        (Chunked(), (), ()),
    ],
)
def test_which_digests_have_to_be_computed(
    framing: Framing, fields: tuple[tuple[str, str], ...], names: tuple[str, ...]
) -> None:
    append = Tus().read_append(head("PATCH", OFFSET, ("upload-offset", "0"), *fields, framing=framing))
    assert append.checks.names == names
    if fields and fields[0][0] == "upload-checksum":
        assert append.checks.expected == {"sha1": "a9993e364706816aba3e25717850c26c9cd0d89d"}


@pytest.mark.parametrize(
    ("urls", "ids"),
    [
        (f"/uploads/{ID}", [ID]),
        (f"/uploads/{ID}/", [ID]),
        (f"/uploads/{ID}?x=1", [ID]),
        (f"https://r.example/uploads/{ID}  http://R.EXAMPLE/uploads/{ID}", [ID, ID]),
        (f"//r.example/uploads/{ID}", None),
        (f"https://r.example:8443/uploads/{ID}", None),
        (f"https://u@r.example/uploads/{ID}", None),
        (f"http:/uploads/{ID}", None),
        (f"/uploads/../uploads/{ID}", None),
        (f"/uploadsx/{ID}", None),
        (f"/uploads/{ID}0", None),
        ("http://[", None),
    ],
)
def test_a_final_names_uploads_of_this_host_only(urls: str, ids: list[str] | None) -> None:
    request = head("POST", ("upload-concat", f"final;{urls}"))
    if ids is None:
        with pytest.raises(GatewayError):
            Tus().read_creation(request)
    else:
        assert list(Tus().read_creation(request).parts) == ids


def test_answers_carry_what_the_protocol_demands() -> None:
    upload = Upload(id=ID, ticket="t", length=10, offset=4, metadata="a YQ==", concat="partial", expires=1e9)
    created = dict(Tus().created(upload).fields)
    assert created["location"] == f"/uploads/{ID}"
    assert created["upload-offset"] == "4"
    assert created["upload-expires"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    looked = dict(Tus().looked(upload).fields)
    assert looked["upload-length"] == "10"
    assert looked["upload-metadata"] == "a YQ=="
    assert looked["upload-concat"] == "partial"
    assert looked["cache-control"] == "no-store"
    assert "image-location" not in looked
    done = Upload(
        id=ID,
        ticket="t",
        length=4,
        offset=4,
        answer=Answer(status=201, location="/x", ref="a/b/c:d", sha256="ab"),
    )
    appended = dict(Tus().appended(done).fields)
    assert appended["image-location"] == "/x"
    assert appended["image-ref"] == "a/b/c:d"
    assert appended["image-digest"] == "sha256:ab"
    refused = Upload(id=ID, ticket="t", answer=Answer(status=409, body="no"))
    assert "image-location" not in dict(Tus().appended(refused).fields)
