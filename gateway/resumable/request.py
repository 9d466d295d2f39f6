"""Owns what both protocols of resumable uploads have in common: what a request asks for, and how one is answered."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import parse_qs, unquote

from gateway.errors import BadUpload, BodyTooLarge, GatewayError
from gateway.http.head import Field, NoBody, RequestHead
from gateway.http.reply import Reply
from gateway.resumable.resource import LARGEST_BYTES, Upload

PREFIX: Final = "/uploads/"
NO_STORE: Final = ("cache-control", "no-store")
_DIGITS: Final = re.compile(r"[0-9]{1,60}")
_FIELDS: Final = 100
_FIRST_REFUSAL: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an upload shall go, as the client wrote it."""

    collection: str = ""
    name: str = ""
    tag: str = ""
    filename: str = ""
    description: str = ""
    csrf_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Digests that one request's content must have (algorithm → hex); with ``in_trailer`` they come behind it."""

    expected: Mapping[str, str] = field(default_factory=dict)
    in_trailer: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What has to be computed."""
        return (*self.expected, *(name for name in self.in_trailer if name not in self.expected))


NO_CHECKS: Final = Checks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A request for a new upload. ``parts``: the uploads that it is made of. ``closes``: see ``Upload.is_closed``."""

    target: Target
    length: int | None
    has_content: bool
    closes: bool = True
    checks: Checks = NO_CHECKS
    metadata: str = ""
    concat: str = ""
    parts: tuple[str, ...] = ()
    repr_digest: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """More bytes for an upload. ``closes`` None: the protocol has no word for it."""

    offset: int
    length: int | None = None
    closes: bool | None = None
    checks: Checks = NO_CHECKS


class Dialect(Protocol):
    """One protocol: reads heads, makes answers; does nothing."""

    @property
    def informs(self) -> bool:
        """Whether the client wants interim (104) answers."""
        ...

    @property
    def length_closes(self) -> bool:
        """Whether an upload is complete as soon as its length is reached, without a word for it."""
        ...

    @property
    def fields(self) -> tuple[Field, ...]:
        """What stands in every answer."""
        ...

    def read_creation(self, head: RequestHead) -> Creation:
        """Raises: BadUpload, InconsistentLength, UnsupportedContent, BodyTooLarge."""
        ...

    def read_append(self, head: RequestHead) -> Append:
        """Raises: BadUpload, InconsistentLength, UnsupportedContent, BodyTooLarge."""
        ...

    def expected(self, checks: Checks, trailers: tuple[Field, ...]) -> Mapping[str, str]:
        """The digests that the content must have. Raises: BadUpload."""
        ...

    def mismatch(self) -> GatewayError:
        """The refusal of content that is not what its digest says."""
        ...

    def created(self, upload: Upload) -> Reply: ...
    def appended(self, upload: Upload) -> Reply: ...
    def looked(self, upload: Upload) -> Reply: ...
    def refused(self, error: GatewayError, request_id: str) -> Reply | None:
        """An answer of the protocol's own; None = the usual one, with whatever fields were added to ``error``."""
        ...


def has_content(head: RequestHead) -> bool:
    """Whether a request announces content, be it of unknown length."""
    return not isinstance(head.framing, NoBody)


def read_target(head: RequestHead, metadata: Mapping[str, str]) -> Target:
    """Where to: the query string counts before the metadata. Raises: BadUpload."""
    try:
        query = parse_qs(head.query, keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError as exc:
        raise BadUpload("The query string has too many fields.") from exc

    def said(name: str) -> str:
        return query[name][0] if name in query else metadata.get(name, "")

    filename = said("filename")
    name = said("name")
    # Uppy and others put the file's name under 'name' too: that is no container's name.
    is_given = name if "name" in query or name != filename else ""
    return Target(
        collection=said("collection"),
        name=is_given,
        tag=said("tag"),
        filename=filename,
        description=said("description"),
        csrf_token=head.fields.get("x-csrf-token") or said("csrf_token"),
    )


def read_length(text: str, name: str) -> int:
    """A length or an offset as tus has them: decimal digits. Raises: BadUpload, BodyTooLarge."""
    if not _DIGITS.fullmatch(text):
        raise BadUpload(f"{name} must be a whole number, not '{text[:40]}'.")
    value = int(text)
    if value > LARGEST_BYTES:
        raise BodyTooLarge(f"An upload can have at most {LARGEST_BYTES} bytes.")
    return value


def upload_path(upload: Upload) -> str:
    """The upload's URL, relative to the host: clients come by names that the gateway need not know."""
    return PREFIX + upload.id


def id_of(path: str) -> str:
    """The id in an upload's path, "" for the place where uploads are made; decoded, not yet proven to be one."""
    return unquote(path.removeprefix(PREFIX.rstrip("/")).removeprefix("/")).removesuffix("/")


def image_fields(upload: Upload) -> tuple[Field, ...]:
    """What became of a complete upload, for clients that get no content with their answer."""
    answer = upload.answer
    if answer is None or answer.status >= _FIRST_REFUSAL or not answer.location:
        return ()
    fields: tuple[Field, ...] = (("image-location", answer.location),)
    if answer.ref:
        fields = (*fields, ("image-ref", answer.ref))
    if answer.sha256:
        fields = (*fields, ("image-digest", f"sha256:{answer.sha256}"))
    return fields
