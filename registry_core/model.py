"""Owns the values that come out of the database: a row each, with the fields named as the columns.

Times are epoch seconds. ``*_by`` are user names, kept as text so that they outlive the account.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: int
    name: str
    password: str
    admin: bool
    robot: bool
    disabled: bool
    email: str
    real_name: str
    created_at: int
    last_login_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """``hash`` is the SHA-256 of the token, ``hint`` its first characters."""

    id: int
    user_id: int
    label: str
    scope: str
    hash: str
    hint: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that is signed in. ``hash`` is the SHA-256 of its cookie."""

    id: int
    hash: str
    user_id: int
    csrf: str
    address: str
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """The first part of a reference. ``quota_bytes`` 0 = no quota of its own."""

    id: int
    name: str
    owner_id: int | None
    description: str
    default_private: bool
    quota_bytes: int
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    id: int
    entity_id: int
    name: str
    owner_id: int | None
    description: str
    private: bool
    quota_bytes: int
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    id: int
    collection_id: int
    name: str
    description: str
    read_only: bool
    downloads: int
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """``uploaded`` tells that the bytes are in the store; before, ``size`` is 0 and ``arch`` a guess.

    ``fingerprints`` are those of the signatures, separated by spaces; ``signed`` is None where nobody looked.
    """

    id: int
    container_id: int
    sha256: str
    size: int
    uploaded: bool
    arch: str
    description: str
    signed: bool | None
    fingerprints: str
    downloads: int
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    id: int
    container_id: int
    name: str
    arch: str
    image_id: int
    frozen: bool
    updated_by: str
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMove:
    """One line of a container's history: ``tag`` came to name ``sha256`` (or nothing, when it was removed)."""

    id: int
    container_id: int
    name: str
    arch: str
    sha256: str
    by: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A library push that is under way, bound to the user who began it."""

    id: str
    image_id: int
    user_id: int
    size: int
    part_size: int
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    id: int
    at: int
    actor: str
    action: str
    object: str
    detail: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trashed:
    """A store key whose image was deleted; ``gc`` takes it away when the window is over."""

    id: int
    key: str
    sha256: str
    size: int
    deleted_by: str
    deleted_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a reference points, as far as it exists, and the role that the asker was given there."""

    entity: Entity | None = None
    collection: Collection | None = None
    container: Container | None = None
    role: str | None = None
