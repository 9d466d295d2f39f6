"""Owns how references are read: ``entity/collection/container:tag``, and names made from file names."""

from dataclasses import dataclass
from typing import Final

from gateway.contract import SHA256_HEX, container_name_of, parse_name, parse_tag
from gateway.errors import BadForm, NotFound

# Where references of one or two parts point (old clients send them as they were typed).
DEFAULT_ENTITY: Final = "library"
DEFAULT_COLLECTION: Final = "default"
DEFAULT_TAG: Final = "latest"
DEFAULT_ARCH: Final = "amd64"

_HASH_PREFIX: Final = "sha256."
_WHOLE_PARTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """An image by tag or by digest; exactly one of ``tag`` and ``sha256`` is set."""

    entity: str
    collection: str
    container: str
    tag: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        what = f"{_HASH_PREFIX}{self.sha256}" if self.sha256 else self.tag
        return f"{self.entity}/{self.collection}/{self.container}:{what}"


def parse_container_path(text: str) -> tuple[str, str, str]:
    """``[[entity/]collection/]container`` → three names, folded to lower case. Raises: NotFound."""
    parts = [part for part in text.split("/") if part]
    if not parts or len(parts) > _WHOLE_PARTS:
        raise NotFound(f"'{text[:200]}' is not a reference of the form entity/collection/container.")
    missing = [DEFAULT_ENTITY, DEFAULT_COLLECTION][: _WHOLE_PARTS - len(parts)]
    entity, collection, container = (fold_name(part) for part in [*missing, *parts])
    return entity, collection, container


def parse_ref(text: str) -> ImageRef:
    """A reference as clients write it. Raises: NotFound."""
    path, _, what = text.partition(":")
    entity, collection, container = parse_container_path(path)
    if what.startswith(_HASH_PREFIX):
        sha256 = parse_hash(what)
        return ImageRef(entity=entity, collection=collection, container=container, sha256=sha256)
    try:
        tag = parse_tag(what or DEFAULT_TAG)
    except BadForm as exc:
        raise NotFound(exc.message) from exc
    return ImageRef(entity=entity, collection=collection, container=container, tag=tag)


def parse_hash(text: str) -> str:
    """``sha256.<hex>`` → the hex digits, lower case. Raises: NotFound."""
    digits = text.removeprefix(_HASH_PREFIX).lower()
    if not text.startswith(_HASH_PREFIX) or not SHA256_HEX.fullmatch(digits):
        raise NotFound(f"'{text[:80]}' is not a digest of the form sha256.<64 hex digits>.")
    return digits


def fold_name(text: str) -> str:
    """A name within a reference. Raises: NotFound, for nothing can have a name that cannot be."""
    try:
        return parse_name(text, "container")
    except BadForm as exc:
        raise NotFound(exc.message) from exc


def container_name(name: str, filename: str) -> str:
    """The container that an uploaded file goes to: ``name`` if given, else made from the file's name.

    Raises: BadForm.
    """
    return parse_name(name, "container") if name.strip() else container_name_of(filename)
