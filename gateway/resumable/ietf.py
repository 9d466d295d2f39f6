"""Owns "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload): heads into requests, uploads into answers.

Interop version 8 (the newest drafts; Apple's URLSession) and 6 (draft -05; tus-js-client) differ, for a server, in
the name of one limit only. No I/O.
"""

import json
import time
from collections.abc import Mapping
from typing import Final

from gateway.errors import (
    BadUpload,
    BodyTooLarge,
    CoreRefused,
    DigestMismatch,
    GatewayError,
    InconsistentLength,
    OffsetMismatch,
    UnsupportedContent,
    UploadCompleted,
)
from gateway.http.head import Field, Fields, RequestHead
from gateway.http.reply import Reply
from gateway.resumable.request import (
    NO_CHECKS,
    NO_STORE,
    Append,
    Checks,
    Creation,
    has_content,
    image_fields,
    read_target,
    upload_path,
)
from gateway.resumable.resource import KEPT_S, LARGEST_BYTES, Upload
from gateway.resumable.structured import read_boolean, read_dictionary, read_integer

VERSION_FIELD: Final = "upload-draft-interop-version"
TUS_JS_VERSION: Final = 6
VERSIONS: Final = (8, TUS_JS_VERSION)
CONTENT_TYPE: Final = "application/partial-upload"
# RFC 9530: what to verify; other algorithms are somebody else's.
DIGESTS: Final = {"sha-256": ("sha256", 32), "sha-512": ("sha512", 64)}
_PROBLEMS: Final = "https://iana.org/assignments/http-problem-types#"


def named_version(head: RequestHead) -> int | None:
    """The interop version that a request names, if it is one of ours."""
    version = read_integer(head.fields.all(VERSION_FIELD))
    return version if version in VERSIONS else None


def is_meant(head: RequestHead) -> bool:
    """Whether a request without any version reads as one of the future RFC."""
    kind = _content_type(head)
    return (
        head.fields.has("upload-complete") or kind == CONTENT_TYPE or head.method in {"GET", "HEAD", "DELETE"}
    )


def describe(most: int) -> tuple[Field, ...]:
    """What OPTIONS tells about this protocol."""
    return (("upload-limit", _limits(most, KEPT_S, 8) + ", min-size=0"), ("accept-patch", CONTENT_TYPE))


class Ietf:
    """The dialect of one interop version; None = the RFC to come, which names none."""

    informs = True

    def __init__(self, version: int | None) -> None:
        self.version = version
        # tus-js-client 4.3.1, the one that speaks 6, never says ?1 for a file that it sends in chunks.
        self.length_closes = version == TUS_JS_VERSION
        self.fields: tuple[Field, ...] = () if version is None else ((VERSION_FIELD, str(version)),)

    def read_creation(self, head: RequestHead) -> Creation:
        """Raises: BadUpload, InconsistentLength, BodyTooLarge."""
        closes = read_boolean(head.fields.all("upload-complete"))
        if closes is None:
            raise BadUpload("Upload-Complete must be ?1 (this is all) or ?0 (more will come).")
        return Creation(
            target=read_target(head, {}),
            length=_read_length(head, offset=0, closes=closes),
            has_content=has_content(head),
            closes=closes,
            checks=_content_digest(head),
            repr_digest=tuple(_digests(head.fields, "repr-digest").items()),
        )

    def read_append(self, head: RequestHead) -> Append:
        """Raises: BadUpload, InconsistentLength, UnsupportedContent, BodyTooLarge."""
        if _content_type(head) != CONTENT_TYPE:
            raise UnsupportedContent(f"Send the bytes of an upload as '{CONTENT_TYPE}'.")
        offset = read_integer(head.fields.all("upload-offset"))
        closes = read_boolean(head.fields.all("upload-complete"))
        if offset is None or offset < 0 or closes is None:
            raise BadUpload("An append needs Upload-Offset (a whole number) and Upload-Complete (?0 or ?1).")
        return Append(
            offset=offset,
            length=_read_length(head, offset=offset, closes=closes),
            closes=closes,
            checks=_content_digest(head),
        )

    def expected(self, checks: Checks, trailers: tuple[Field, ...]) -> Mapping[str, str]:
        """The digests in the head, or in the trailer that was announced."""
        if not checks.in_trailer:
            return checks.expected
        return _digests(Fields(trailers), "content-digest")

    def mismatch(self) -> GatewayError:
        return DigestMismatch("The bytes that arrived do not match Content-Digest. Nothing of them was kept.")

    def created(self, upload: Upload) -> Reply:
        if upload.answer is not None:
            return self._answered(upload, location=upload_path(upload))
        fields = (("location", upload_path(upload)), *self._progress(upload), self.limit(upload))
        return Reply(status=201, fields=fields)

    def appended(self, upload: Upload) -> Reply:
        if upload.answer is not None:
            return self._answered(upload, location=upload.answer.location)
        return Reply(status=204, fields=(*self._progress(upload), self.limit(upload)))

    def looked(self, upload: Upload) -> Reply:
        fields = [NO_STORE, *self._progress(upload), self.limit(upload), *image_fields(upload)]
        if upload.length is not None:
            fields.append(("upload-length", str(upload.length)))
        return Reply(status=204, fields=tuple(fields))

    def began(self, upload: Upload) -> tuple[Field, ...]:
        """The first interim answer: where the upload is, before its content is read."""
        return (*self.fields, ("location", upload_path(upload)), self.limit(upload))

    def progressed(self, offset: int) -> tuple[Field, ...]:
        """A later interim answer: what need not be sent again."""
        return (*self.fields, ("upload-offset", str(offset)))

    def limit(self, upload: Upload) -> Field:
        """Upload-Limit of one upload."""
        left = max(1.0, upload.expires - time.time()) if upload.expires else KEPT_S
        return ("upload-limit", _limits(upload.most, left, self.version))

    def refused(self, error: GatewayError, request_id: str) -> Reply | None:
        """Problems that the protocol names; on all others it marks that the upload's target did not say so."""
        if isinstance(error, CoreRefused):
            error.headers = (*error.headers, ("upload-complete", "?1"))
            return None
        error.headers = (*error.headers, ("upload-complete", "?0"))
        if isinstance(error, BodyTooLarge):
            error.headers = (*error.headers, ("upload-limit", _limits(LARGEST_BYTES, KEPT_S, self.version)))
        name, members = _problem(error)
        if not name:
            return None
        value = {
            "type": _PROBLEMS + name,
            "title": error.message,
            "status": error.status,
            **members,
            "error": {"code": error.status, "message": error.message},
            "request_id": request_id,
        }
        fields = (("content-type", "application/problem+json"), NO_STORE, *error.headers)
        return Reply(status=error.status, fields=fields, body=json.dumps(value).encode(), closes=error.closes)

    def _answered(self, upload: Upload, *, location: str) -> Reply:
        answer = upload.answer
        assert answer is not None  # noqa: S101 - asked before
        fields: list[Field] = [("content-type", "application/json"), *self._progress(upload)]
        if location:
            fields.append(("location", location))
        fields += image_fields(upload)
        return Reply(status=answer.status, fields=tuple(fields), body=answer.body.encode())

    def _progress(self, upload: Upload) -> tuple[Field, ...]:
        complete = "?1" if upload.answer is not None else "?0"
        return (("upload-offset", str(upload.offset)), ("upload-complete", complete))


def _problem(error: GatewayError) -> tuple[str, dict[str, int]]:
    match error:
        case OffsetMismatch(expected=expected, provided=provided):
            return "mismatching-upload-offset", {"expected-offset": expected, "provided-offset": provided}
        case InconsistentLength():
            return "inconsistent-upload-length", {}
        case UploadCompleted():
            return "completed-upload", {}
        case _:
            return "", {}


def _limits(most: int, age_s: float, version: int | None) -> str:
    age = "expires" if version == TUS_JS_VERSION else "max-age"
    return f"max-size={most}, {age}={int(age_s)}"


def _content_type(head: RequestHead) -> str:
    return head.fields.get("content-type").partition(";")[0].strip(" \t").lower()


def _read_length(head: RequestHead, *, offset: int, closes: bool) -> int | None:
    """Upload-Length, or what follows from the content's own length; where both are known they must agree."""
    said = read_integer(head.fields.all("upload-length"))
    if said is not None and said < 0:
        said = None  # a bad value: the field is ignored
    content = head.content_length
    follows = offset + content if closes and content is not None else None
    if said is not None and content is not None and offset + content > said:
        raise InconsistentLength("The content is longer than Upload-Length.")
    if said is not None and follows is not None and said != follows:
        raise InconsistentLength(f"Upload-Length says {said}, the content ends at {follows}.")
    length = follows if said is None else said
    if length is not None and length > LARGEST_BYTES:
        raise BodyTooLarge(f"An upload can have at most {LARGEST_BYTES} bytes.")
    return length


def _content_digest(head: RequestHead) -> Checks:
    if not has_content(head):
        return NO_CHECKS
    if expected := _digests(head.fields, "content-digest"):
        return Checks(expected=expected)
    announced = any(name.lower() == "content-digest" for name in head.fields.items_of("trailer"))
    return Checks(in_trailer=tuple(name for name, _ in DIGESTS.values())) if announced else NO_CHECKS


def _digests(fields: Fields, name: str) -> dict[str, str]:
    """The digests of a field that can be verified: algorithm as hashlib calls it → hex. Raises: BadUpload."""
    found: dict[str, str] = {}
    for algorithm, value in (read_dictionary(fields.all(name)) or {}).items():
        if algorithm not in DIGESTS:
            continue
        known, size = DIGESTS[algorithm]
        if not isinstance(value, bytes) or len(value) != size:
            raise BadUpload(f"{name.title()}: that is no {algorithm}.")
        found[known] = value.hex()
    return found
