"""Owns the URL space of the front door: which request goes where. Nothing else knows paths."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from gateway.contract import BLOB_PREFIX, INTERNAL_PREFIX, TRANSFER_PREFIX, UPLOAD_STATUS_PREFIX
from gateway.errors import MethodNotAllowed, NotFound
from gateway.http.head import RequestHead

ACME_PREFIX: Final = "/.well-known/acme-challenge/"
OPERATIONS_PREFIX: Final = "/-/"
_LEGACY_PUSH: Final = re.compile(r"/+v1/+imagefile/[0-9A-Za-z]+/?")


@dataclass(frozen=True, slots=True)
class ToCore:
    """Forward to the registry core."""


@dataclass(frozen=True, slots=True)
class ToUpload:
    """A web upload."""


@dataclass(frozen=True, slots=True)
class ToTransfer:
    """The bytes of a library push."""


@dataclass(frozen=True, slots=True)
class ToLegacyPush:
    """The bytes of a push by a client before the v2 protocol."""


@dataclass(frozen=True, slots=True)
class ToBlob:
    """A download."""


@dataclass(frozen=True, slots=True)
class ToUploadStatus:
    """What became of an upload that was answered 202."""

    upload_id: str


@dataclass(frozen=True, slots=True)
class ToResumable:
    """Resumable uploads: ``/uploads`` and everything below."""


@dataclass(frozen=True, slots=True)
class ToAcme:
    """An ACME HTTP-01 challenge."""

    token: str


@dataclass(frozen=True, slots=True)
class ToOperations:
    """Health, readiness, metrics and the like; only for administrators. ``page`` is the path behind ``/-/``."""

    page: str


type Destination = (
    ToCore
    | ToUpload
    | ToTransfer
    | ToLegacyPush
    | ToBlob
    | ToUploadStatus
    | ToResumable
    | ToAcme
    | ToOperations
)

_CORE: Final = ToCore()
_READ_ONLY: Final = ((UPLOAD_STATUS_PREFIX, ToUploadStatus), (ACME_PREFIX, ToAcme))


def choose_route(head: RequestHead) -> Destination:
    """Where this request goes.

    Raises: NotFound, MethodNotAllowed.
    """
    path, method = head.path, head.method
    if path == "/upload" and method not in {"GET", "HEAD", "OPTIONS"}:
        _require(method, "POST", "GET, HEAD, POST")
        return ToUpload()
    if method == "POST" and _LEGACY_PUSH.fullmatch(path):
        return ToLegacyPush()
    if _is_internal(path):
        raise NotFound
    return _choose_by_prefix(path, method) or _CORE


def _choose_by_prefix(path: str, method: str) -> Destination | None:
    if path.startswith(TRANSFER_PREFIX):
        _require(method, "PUT", "PUT")
        return ToTransfer()
    if path.startswith(BLOB_PREFIX):
        return ToBlob()
    if is_resumable(path):
        return ToResumable()
    if path.startswith(OPERATIONS_PREFIX):  # its methods are its own business: strangers get a 404 for all
        return ToOperations(path.removeprefix(OPERATIONS_PREFIX))
    for prefix, make in _READ_ONLY:
        if path.startswith(prefix):
            if method not in {"GET", "HEAD"}:
                raise MethodNotAllowed(headers=(("allow", "GET, HEAD"),))
            return make(path.removeprefix(prefix))
    return None


def is_resumable(path: str) -> bool:
    """Whether it is the place of the resumable uploads, or one of them."""
    return path == "/uploads" or path.startswith("/uploads/")


def _is_internal(path: str) -> bool:
    # The core refuses unsigned internal calls itself; that they never even reach it is the second lock.
    return unquote(path).lower().lstrip("/").startswith(INTERNAL_PREFIX.strip("/"))


def _require(method: str, only: str, allow: str) -> None:
    if method != only:
        raise MethodNotAllowed(headers=(("allow", allow),))
