"""Owns what gateway and core say to each other: names, signed tickets and blob links, signed internal calls.

Both sides hold one secret (``load_secret``). Everything here is pure but for reading that secret. What both answer
in the same way (who is a browser, what the pages' files are called) is here, too.

A *ticket* is the core's permission for one upload; the gateway asks for it before the first body byte and sends
it back with the *commit* after the store has the bytes. A *blob link* lets anyone who holds it read one blob until
it expires, so that downloads need no second question to the core.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from gateway.errors import BadForm, NotFound

# The paths of the public URL space that the gateway answers from its own store, with no question to the core.
TRANSFER_PREFIX: Final = "/v2/transfers/"  # PUT: the bytes of a library push, by ticket
BLOB_PREFIX: Final = "/v1/blobs/"  # GET, HEAD: the bytes of an image, by blob link
UPLOAD_STATUS_PREFIX: Final = "/v2/uploads/"  # GET: what became of an upload that was answered 202
INTERNAL_PREFIX: Final = "/internal/"  # never forwarded from outside
STATIC_PREFIX: Final = "/static/"  # GET, HEAD: VERSION/NAME, the files that pages need

# The files that pages need, by kind; others beside them are not served.
STATIC_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
STATIC_CACHE: Final = "public, max-age=31536000, immutable"
_HASH_CHARS: Final = 12

TICKETS_PATH: Final = "/internal/tickets"
COMMITS_PATH: Final = "/internal/commits"
HEALTH_PATH: Final = "/internal/health"

CALL_TIME_HEADER: Final = "x-gateway-time"
CALL_SIGNATURE_HEADER: Final = "x-gateway-signature"
CALL_FRESH_S: Final = 300  # a signed call is good for this long, so that a recorded one is worthless later

# What real clients accept (apptainer's pkg/util.go): lower case, and no separator at an end or doubled.
NAME_PATTERN: Final = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
NAME: Final = re.compile(NAME_PATTERN)
NAME_MAX_CHARS: Final = 128
TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}")

type TicketKind = Literal["web", "image", "part", "spooled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Permission for one upload.

    kind: ``web`` (a form, one or more files, name known at the end), ``image`` (one library push, all bytes in one
        body), ``part`` (one part of a library push), ``spooled`` (as ``web``, but the gateway wrote it while the
        core was away: the core looks at everything when it is told).
    id: the upload, unguessable; for parts the same for all parts of one upload. Commits are idempotent by it.
    container: the container's name, or "" when the form will say it.
    image_id: the image row that a library push fills, or "".
    max_bytes: most bytes of one file (``spooled``: of all its files), 0 = the gateway's own limit only.
    sha256: the promised digest of the whole file (lower-case hex), or "".
    size: the promised size of the whole file in bytes, or -1.
    part_number, part_size, part_sha256: for ``part`` only; numbered from 1; every part but the last has part_size.
    expires: seconds since the epoch after which no upload may start with it.
    credential: for ``spooled`` only, as the core named it with an earlier ticket.
    """

    kind: TicketKind
    id: str
    entity: str
    collection: str
    container: str = ""
    image_id: str = ""
    user: str = ""
    max_bytes: int = 0
    sha256: str = ""
    size: int = -1
    part_number: int = 0
    part_size: int = 0
    part_sha256: str = ""
    expires: int = 0
    credential: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLink:
    """Permission to read one blob. ``key`` is the store's key, ``size`` its bytes, ``expires`` epoch seconds."""

    key: str
    sha256: str
    size: int
    filename: str
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketQuestion:
    """What the gateway asks before the first body byte (``POST /internal/tickets``).

    The credentials are those of the client's request, as it sent them. ``declared_bytes`` is the request's
    Content-Length (the whole form), or -1. ``image_id`` is set for the old one-call push (``POST /v1/imagefile/ID``)
    and then ``collection`` is empty. ``collection`` is ``entity/collection`` as the client wrote it.
    """

    collection: str = ""
    name: str = ""
    tag: str = ""
    image_id: str = ""
    declared_bytes: int = -1
    authorization: str = ""
    cookie: str = ""
    csrf_token: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedImage:
    """One file that the store now holds. ``name`` and ``tag`` as the form gave them ("" for library pushes)."""

    sha256: str
    size: int
    name: str = ""
    tag: str = ""
    filename: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What the gateway tells after the store has the bytes (``POST /internal/commits``). Idempotent by ticket id."""

    ticket: str
    images: tuple[CommittedImage, ...] = field(default=())


def parse_collection(text: str) -> tuple[str, str]:
    """``entity/collection`` → the two names, folded to lower case.

    Raises: BadForm.
    """
    entity, slash, collection = text.strip().strip("/").partition("/")
    if not slash or "/" in collection:
        raise BadForm("The field 'collection' must read entity/collection, for example alice/test.")
    return parse_name(entity, "entity"), parse_name(collection, "collection")


def parse_name(text: str, what: str) -> str:
    """A name of an entity, collection or container, folded to lower case as write and read must both do.

    Raises: BadForm.
    """
    name = text.strip().lower()
    if len(name) > NAME_MAX_CHARS or not NAME.fullmatch(name):
        raise BadForm(
            f"'{text[:80]}' cannot be the name of {'an' if what[0] in 'aeiou' else 'a'} {what}: use at most"
            f" {NAME_MAX_CHARS} letters, digits and single '.', '_' or '-' between them."
        )
    return name


def parse_tag(text: str) -> str:
    """A tag. Upper case is kept: clients send ``Latest`` and ``v1.0_rc-1`` as they are.

    Raises: BadForm.
    """
    tag = text.strip()
    if not TAG.fullmatch(tag) or tag.startswith("sha256."):
        raise BadForm(
            f"'{text[:80]}' cannot be a tag: use at most 128 letters, digits, '.', '_' and '-', beginning with a"
            " letter, digit or '_', and not with 'sha256.'."
        )
    return tag


def load_secret(path: Path) -> bytes:
    """The shared secret in ``path``, made at first use by whoever comes first (mode 0600)."""
    try:
        return _read_secret(path)
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was first; its secret counts
    finally:
        fresh.unlink()
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    return bytes.fromhex(path.read_text().strip())


def seal(secret: bytes, value: Ticket | BlobLink) -> str:
    """A URL-safe token that carries ``value`` and proves that a holder of the secret made it."""
    fields = asdict(value)
    if not fields.get("credential"):
        fields.pop("credential", None)  # a gateway of the version before does not know it
    body = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    kind = type(value).__name__.encode()
    mac = hmac.digest(secret, kind + b"\0" + body, "sha256")
    return f"{_b64(body)}.{_b64(mac[:16])}"


def open_ticket(secret: bytes, token: str, *, now: float | None) -> Ticket:
    """The ticket in ``token``. ``now`` in epoch seconds checks the expiry, None does not (a commit comes late).

    Raises: NotFound for a token that is forged, broken or expired.
    """
    return Ticket(**_unseal(secret, "Ticket", token, now))


def open_link(secret: bytes, token: str, *, now: float) -> BlobLink:
    """The blob link in ``token``. Raises: NotFound for a token that is forged, broken or expired."""
    return BlobLink(**_unseal(secret, "BlobLink", token, now))


def _unseal(secret: bytes, kind: str, token: str, now: float | None) -> dict[str, Any]:
    refusal = NotFound("This link is not valid, or no longer. Start again from the beginning.")
    body64, _, mac64 = token.partition(".")
    try:
        body = _unb64(body64)
    except ValueError as exc:
        raise refusal from exc
    wanted = _b64(hmac.digest(secret, kind.encode() + b"\0" + body, "sha256")[:16])
    if not hmac.compare_digest(mac64.encode(), wanted.encode()):
        raise refusal
    fields: dict[str, Any] = json.loads(body)
    if now is not None and fields["expires"] < now:
        raise refusal
    return fields


def sign_call(
    secret: bytes, method: str, target: str, body: bytes, now: float
) -> tuple[tuple[str, str], ...]:
    """The two headers that prove an internal call. ``target`` is path and query."""
    stamp = str(int(now))
    return (
        (CALL_TIME_HEADER, stamp),
        (CALL_SIGNATURE_HEADER, _call_mac(secret, method, target, body, stamp)),
    )


def call_is_signed(
    secret: bytes, method: str, target: str, body: bytes, *, stamp: str, signature: str, now: float
) -> bool:
    """Whether an internal call was made by a holder of the secret within the last ``CALL_FRESH_S`` seconds."""
    wanted = _call_mac(secret, method, target, body, stamp)
    if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
        return False
    return stamp.isdecimal() and abs(now - int(stamp)) <= CALL_FRESH_S


def _call_mac(secret: bytes, method: str, target: str, body: bytes, stamp: str) -> str:
    digest = hashlib.sha256(body).hexdigest()
    said = "\n".join(("call", method, target, stamp, digest)).encode()
    return hmac.digest(secret, said, "sha256").hex()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def container_name_of(filename: str) -> str:
    """The container's name when a form gives none: the file's own name, repaired until ``parse_name`` takes it."""
    stem = filename.lower()
    for suffix in (".sif", ".simg", ".img"):
        stem = stem.removesuffix(suffix)
    repaired = re.sub(r"[^a-z0-9._-]", "-", stem)
    repaired = re.sub(r"[._-]*([._-])", r"\1", repaired).strip("._-")[:NAME_MAX_CHARS].rstrip("._-")
    return repaired or "image"


def parse_moment(value: object) -> float:
    """A time in the maintenance's state, as a command or a person wrote it → epoch seconds.

    ISO 8601 (without an offset: this machine's time zone) or epoch seconds. Raises: ValueError, also for what no
    calendar has: milliseconds, infinity. Every answer that tells it would fail.
    """
    try:
        at = (
            float(value) if isinstance(value, int | float) else datetime.fromisoformat(str(value)).timestamp()
        )
        datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError) as exc:
        raise ValueError(f"'{value}' is no time") from exc
    return at


def static_version(files: Mapping[str, bytes]) -> str:
    """The version in the URLs of the pages' files, by name: it changes with any byte of any of them."""
    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:_HASH_CHARS]


def static_etag(content: bytes) -> str:
    """The entity tag of one of them."""
    return f'"{hashlib.sha256(content).hexdigest()[:_HASH_CHARS]}"'


# Bounded, so that no long row of digits is tried in every way it can be split.
_QUALITY: Final = re.compile(
    r"(?:^|;)[ \t]*q[ \t]*=[ \t]*([0-9]{1,3}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})[ \t]*(?:;|$)"
)


def prefers_html(accept: Iterable[str]) -> bool:
    """Whether who sent these elements of ``Accept`` is a browser: HTML is named, and wanted no less than JSON.

    ``*/*`` alone names nothing: curl and programs send it. Library clients send no Accept at all.
    """
    qualities: dict[str, float] = {}
    for element in accept:
        kind, _, parameters = element.lower().partition(";")
        quality = _QUALITY.search(parameters)
        # A quality that cannot be read is as good as none: the kind was named all the same.
        given = 1.0 if quality is None else min(1.0, float(quality[1]))
        kind = kind.strip(" \t")
        qualities[kind] = max(given, qualities.get(kind, 0.0))
    html = _quality_of(qualities, "text/html", "text/*")
    return html > 0 and html >= _quality_of(qualities, "application/json", "application/*", "*/*")


def _quality_of(qualities: Mapping[str, float], *kinds: str) -> float:
    """The quality of the first kind that is named: the most specific one counts (RFC 9110 section 12.5.1)."""
    return next((qualities[kind] for kind in kinds if kind in qualities), 0.0)
