"""Owns tus 1.0 as it is written: heads into requests, uploads into answers. No I/O.

https://tus.io/protocols/resumable-upload: core, creation, creation-with-upload, creation-defer-length, expiration,
checksum, checksum-trailer, termination, concatenation.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import (
    BadUpload,
    BodyTooLarge,
    ChecksumMismatch,
    GatewayError,
    UnsupportedContent,
    UnsupportedProtocol,
)
from gateway.http.head import Chunked, Field, Fields, RequestHead
from gateway.http.reply import Reply
from gateway.resumable.request import (
    NO_CHECKS,
    NO_STORE,
    PREFIX,
    Append,
    Checks,
    Creation,
    has_content,
    id_of,
    image_fields,
    read_length,
    read_target,
    upload_path,
)
from gateway.resumable.resource import ID, Upload

VERSION: Final = "1.0.0"
CONTENT_TYPE: Final = "application/offset+octet-stream"
EXTENSIONS: Final = (
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,"
    "concatenation"
)
ALGORITHMS: Final = {"sha1": 20, "sha256": 32}  # bytes of each digest
_METADATA_KEY: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


def require_version(head: RequestHead) -> None:
    """Raises: UnsupportedProtocol."""
    if head.fields.all("tus-resumable") != [VERSION]:
        raise UnsupportedProtocol(
            f"Send 'Tus-Resumable: {VERSION}', or speak the IETF protocol (Upload-Draft-Interop-Version: 8 or 6).",
            headers=(("tus-version", VERSION),),
        )


def describe(most: int) -> tuple[Field, ...]:
    """What OPTIONS tells about this protocol."""
    return (
        ("tus-resumable", VERSION),
        ("tus-version", VERSION),
        ("tus-extension", EXTENSIONS),
        ("tus-max-size", str(most)),
        ("tus-checksum-algorithm", ",".join(ALGORITHMS)),
    )


class Tus:
    """The dialect."""

    informs = False
    length_closes = True
    fields: tuple[Field, ...] = (("tus-resumable", VERSION),)

    def read_creation(self, head: RequestHead) -> Creation:
        """Raises: BadUpload, UnsupportedContent, BodyTooLarge."""
        metadata = ",".join(head.fields.all("upload-metadata"))
        concat, parts = _read_concat(head)
        with_content = has_content(head)
        if with_content:
            _require_content_type(head)
        length = _read_length(head, is_final=bool(parts))
        if with_content and parts:
            raise BadUpload("A final upload is made of other uploads; it has no content of its own.")
        return Creation(
            target=read_target(head, read_metadata(metadata)),
            length=length,
            has_content=with_content,
            checks=_read_checks(head) if with_content else NO_CHECKS,
            metadata=metadata,
            concat=concat,
            parts=parts,
        )

    def read_append(self, head: RequestHead) -> Append:
        """Raises: BadUpload, UnsupportedContent, BodyTooLarge."""
        _require_content_type(head)
        length = None
        if head.fields.has("upload-length"):
            length = read_length(_one(head.fields, "upload-length"), "Upload-Length")
        return Append(
            offset=read_length(_one(head.fields, "upload-offset"), "Upload-Offset"),
            length=length,
            checks=_read_checks(head),
        )

    def expected(self, checks: Checks, trailers: tuple[Field, ...]) -> Mapping[str, str]:
        """The checksum of the head, or of the trailer that was announced. Raises: BadUpload."""
        if not checks.in_trailer:
            return checks.expected
        return _read_checksum(_one(Fields(trailers), "upload-checksum"))

    def mismatch(self) -> GatewayError:
        return ChecksumMismatch()

    def created(self, upload: Upload) -> Reply:
        fields = (("location", upload_path(upload)), *_offset_fields(upload))
        body = upload.answer.body.encode() if upload.answer is not None else b""
        kind: tuple[Field, ...] = (("content-type", "application/json"),) if body else ()
        return Reply(status=201, fields=(*fields, *kind), body=body)

    def appended(self, upload: Upload) -> Reply:
        return Reply(status=204, fields=_offset_fields(upload))

    def looked(self, upload: Upload) -> Reply:
        fields = [NO_STORE, *_offset_fields(upload)]
        if upload.length is None:
            fields.append(("upload-defer-length", "1"))
        else:
            fields.append(("upload-length", str(upload.length)))
        if upload.metadata:
            fields.append(("upload-metadata", upload.metadata))
        if upload.concat:
            fields.append(("upload-concat", upload.concat))
        return Reply(status=204, fields=tuple(fields))

    def refused(self, error: GatewayError, request_id: str) -> None:
        """Refusals look as everywhere here."""


def _offset_fields(upload: Upload) -> tuple[Field, ...]:
    return (
        ("upload-offset", str(upload.offset)),
        ("upload-expires", formatdate(upload.expires, usegmt=True)),
        *image_fields(upload),
    )


def read_metadata(text: str) -> dict[str, str]:
    """Upload-Metadata: ``key base64`` pairs between commas; a value may be empty or missing. Raises: BadUpload."""
    found: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        key, _, value = pair.strip(" \t").partition(" ")
        if not _METADATA_KEY.fullmatch(key):
            raise BadUpload("Upload-Metadata has a key that is empty, or has odd characters in it.")
        if key in found:
            raise BadUpload(f"Upload-Metadata has the key '{key[:80]}' twice.")
        try:
            found[key] = base64.b64decode(value.strip(" "), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError) as exc:
            raise BadUpload(f"Upload-Metadata: the value of '{key[:80]}' is not Base64.") from exc
    return found


def _one(fields: Fields, name: str) -> str:
    values = fields.all(name)
    if len(values) != 1:
        shown = name.title()
        raise BadUpload(f"{shown} is missing." if not values else f"{shown} must stand there once.")
    return values[0]


def _read_length(head: RequestHead, *, is_final: bool) -> int | None:
    fields = head.fields
    has_length, is_deferred = fields.has("upload-length"), fields.has("upload-defer-length")
    if is_final:
        if has_length or is_deferred:
            raise BadUpload("A final upload has the length of its parts: send no Upload-Length.")
        return None
    if has_length == is_deferred:
        raise BadUpload("Send either Upload-Length, or 'Upload-Defer-Length: 1'.")
    if is_deferred:
        if _one(fields, "upload-defer-length") != "1":
            raise BadUpload("Upload-Defer-Length can only be 1.")
        return None
    length = read_length(_one(fields, "upload-length"), "Upload-Length")
    if (head.content_length or 0) > length:
        raise BodyTooLarge("The content is longer than Upload-Length.")
    return length


def _require_content_type(head: RequestHead) -> None:
    kind = head.fields.get("content-type").partition(";")[0].strip(" \t").lower()
    if kind != CONTENT_TYPE:
        raise UnsupportedContent(f"Send the bytes of an upload as '{CONTENT_TYPE}'.")


def _read_checks(head: RequestHead) -> Checks:
    if head.fields.has("upload-checksum"):
        return Checks(expected=_read_checksum(_one(head.fields, "upload-checksum")))
    announced = isinstance(head.framing, Chunked) and any(
        name.lower() == "upload-checksum" for name in head.fields.items_of("trailer")
    )
    return Checks(in_trailer=tuple(ALGORITHMS)) if announced else NO_CHECKS


def _read_checksum(text: str) -> dict[str, str]:
    algorithm, _, value = text.partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadUpload(f"Upload-Checksum: this server knows {', '.join(ALGORITHMS)}.")
    try:
        digest = base64.b64decode(value.strip(" "), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadUpload("Upload-Checksum is not Base64.") from exc
    if len(digest) != ALGORITHMS[algorithm]:
        raise BadUpload(f"Upload-Checksum: that is no {algorithm}.")
    return {algorithm: digest.hex()}


def _read_concat(head: RequestHead) -> tuple[str, tuple[str, ...]]:
    if not head.fields.has("upload-concat"):
        return "", ()
    text = _one(head.fields, "upload-concat")
    if text == "partial":
        return text, ()
    kind, _, urls = text.partition(";")
    parts = tuple(_id_in(url, head) for url in urls.split())
    if kind != "final" or not parts:
        raise BadUpload("Upload-Concat must be 'partial', or 'final;' and the URLs of the parts.")
    return text, parts


def _id_in(url: str, head: RequestHead) -> str:
    """The upload that a URL names. It is never fetched: only this server's own uploads can be meant."""
    refusal = BadUpload("Upload-Concat names something that is no upload of this server.")
    try:
        split = urlsplit(url)
    except ValueError as exc:
        raise refusal from exc
    is_ours = not split.netloc or (split.scheme in {"http", "https"} and split.netloc.lower() == head.host)
    path = split.path if split.path.startswith("/") else PREFIX + split.path
    if not is_ours or (split.scheme and not split.netloc) or not path.startswith(PREFIX):
        raise refusal
    upload_id = id_of(path)
    if not ID.fullmatch(upload_id):
        raise refusal
    return upload_id
