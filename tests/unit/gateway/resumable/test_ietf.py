"""The IETF protocol's heads and answers without a socket."""

import json

import pytest

from gateway.errors import (
    BadUpload,
    BodyTooLarge,
    CoreRefused,
    GatewayError,
    InconsistentLength,
    NotFound,
    OffsetMismatch,
    UploadCompleted,
)
from gateway.http.head import NO_BODY, Chunked, Fields, Framing, RequestHead, Sized
from gateway.resumable.ietf import Ietf, describe, is_meant, named_version
from gateway.resumable.resource import Answer, Upload
from gateway.resumable.structured import read_dictionary

ID = "0" * 40


def head(method: str, *fields: tuple[str, str], framing: Framing = NO_BODY) -> RequestHead:
    return RequestHead(method=method, target="/uploads/", fields=Fields(fields), framing=framing)


@pytest.mark.parametrize(
    ("values", "version"),
    [
        (["8"], 8),
        (["6"], 6),
        (["7"], None),
        (["9"], None),
        (["8", "8"], None),
        (['"8"'], None),
        (["8;a"], 8),
        ([], None),
    ],
)
def test_which_interop_versions_are_spoken(values: list[str], version: int | None) -> None:
    request = head("POST", *(("upload-draft-interop-version", value) for value in values))
    assert named_version(request) == version


@pytest.mark.parametrize(
    ("method", "fields", "meant"),
    [
        ("POST", (("upload-complete", "?1"),), True),
        ("POST", (), False),
        ("PATCH", (("content-type", "Application/Partial-Upload"),), True),
        ("PATCH", (("content-type", "application/offset+octet-stream"),), False),
        ("HEAD", (), True),
        ("GET", (), True),
        ("DELETE", (), True),
    ],
)
def test_what_reads_as_the_future_rfc(method: str, fields: tuple[tuple[str, str], ...], meant: bool) -> None:
    assert is_meant(head(method, *fields)) is meant


@pytest.mark.parametrize(
    ("framing", "complete", "said", "length"),
    [
        (Sized(5), "?1", None, 5),
        (Sized(5), "?1", "5", 5),
        (Sized(5), "?1", "6", InconsistentLength),
        (Sized(5), "?1", "4", InconsistentLength),
        (Sized(5), "?0", None, None),
        (Sized(5), "?0", "5", 5),
        (Sized(5), "?0", "6", 6),
        (Sized(5), "?0", "4", InconsistentLength),
        (Chunked(), "?1", None, None),
        (Chunked(), "?1", "9", 9),
        (NO_BODY, "?1", None, 0),
        (NO_BODY, "?0", None, None),
        (NO_BODY, "?1", "1", InconsistentLength),
        (Sized(5), "?1", "-5", 5),
        (Sized(5), "?1", "five", 5),
        (Sized(5), "?0", "999999999999999", BodyTooLarge),
        (Sized(6 << 40), "?1", None, BodyTooLarge),
        (Sized(5), "1", "5", BadUpload),
    ],
)
def test_the_length_is_what_was_said_or_follows(
    framing: Framing, complete: str, said: str | None, length: int | type[GatewayError] | None
) -> None:
    fields = [("upload-complete", complete)]
    if said is not None:
        fields.append(("upload-length", said))
    request = head("POST", *fields, framing=framing)
    if isinstance(length, type):
        with pytest.raises(length):
            Ietf(8).read_creation(request)
    else:
        creation = Ietf(8).read_creation(request)
        assert (creation.length, creation.closes) == (length, complete == "?1")


def test_an_appends_length_counts_from_its_offset() -> None:
    fields = (
        ("content-type", "application/partial-upload"),
        ("upload-offset", "10"),
        ("upload-complete", "?1"),
    )
    append = Ietf(8).read_append(head("PATCH", *fields, framing=Sized(5)))
    assert (append.offset, append.length, append.closes) == (10, 15, True)


@pytest.mark.parametrize(
    ("error", "name", "members"),
    [
        (
            OffsetMismatch(expected=5, provided=3),
            "mismatching-upload-offset",
            {"expected-offset": 5, "provided-offset": 3},
        ),
        (InconsistentLength(), "inconsistent-upload-length", {}),
        (UploadCompleted(), "completed-upload", {}),
    ],
)
def test_the_problems_of_the_protocol_are_named(
    error: GatewayError, name: str, members: dict[str, int]
) -> None:
    reply = Ietf(8).refused(error, "id")
    assert reply is not None
    value = json.loads(reply.body)
    assert value["type"].endswith("#" + name)
    assert members.items() <= value.items()
    assert value["error"]["code"] == reply.status == error.status
    assert ("upload-complete", "?0") in reply.fields


def test_who_refused_stands_in_upload_complete() -> None:
    for error, complete in ((NotFound(), "?0"), (CoreRefused(403, "No."), "?1"), (BodyTooLarge(), "?0")):
        assert Ietf(8).refused(error, "id") is None
        assert ("upload-complete", complete) in error.headers
    assert any(name == "upload-limit" for name, _ in error.headers)


@pytest.mark.parametrize(("version", "age"), [(8, "max-age"), (6, "expires"), (None, "max-age")])
def test_the_limits_are_a_dictionary_of_integers(version: int | None, age: str) -> None:
    upload = Upload(id=ID, ticket="t", most=1000)
    name, value = Ietf(version).limit(upload)
    limits = read_dictionary([value])
    assert name == "upload-limit"
    assert limits is not None
    assert limits["max-size"] == 1000
    assert age in limits
    told = read_dictionary([dict(describe(1000))["upload-limit"]])
    assert told is not None
    assert told["min-size"] == 0


def test_interim_answers_tell_where_once_and_then_how_far() -> None:
    upload = Upload(id=ID, ticket="t")
    began, progressed = dict(Ietf(8).began(upload)), dict(Ietf(8).progressed(5))
    assert began["location"] == dict(Ietf(8).created(upload).fields)["location"]
    assert began["upload-draft-interop-version"] == progressed["upload-draft-interop-version"] == "8"
    assert "location" not in progressed
    assert progressed["upload-offset"] == "5"
    assert "upload-draft-interop-version" not in dict(Ietf(None).began(upload))


def test_a_complete_upload_gives_its_targets_answer() -> None:
    answer = Answer(status=201, location="https://r/x", body='{"data":1}', ref="x", sha256="ab")
    upload = Upload(id=ID, ticket="t", length=5, offset=5, answer=answer)
    made, appended = Ietf(8).created(upload), Ietf(8).appended(upload)
    assert made.body == appended.body == b'{"data":1}'
    assert dict(made.fields)["location"] == f"/uploads/{ID}"
    assert dict(appended.fields)["location"] == "https://r/x"
    assert dict(appended.fields)["upload-complete"] == "?1"
    assert dict(Ietf(8).looked(upload).fields)["upload-length"] == "5"
