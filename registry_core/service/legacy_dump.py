"""Owns reading the dump of an old Singularity Registry (sregistry): its users, collections and containers.

Pure: what the dump says, checked and put into our own words. Nothing here touches files or the database.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.contract import NAME_MAX_CHARS, SHA256_HEX, container_name_of

_DUMMY: Final = "DUMMY-"  # what the old registry calls a push that never ended
_ORPHANED: Final = "library"  # the entity of collections whose owner is not in the dump


@dataclass(frozen=True, slots=True, kw_only=True)
class OldUser:
    """``password`` is Django's hash; it goes on working here."""

    name: str
    said_name: str
    password: str
    email: str
    real_name: str
    admin: bool
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCollection:
    entity: str
    name: str
    said_name: str
    private: bool
    contributors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OldContainer:
    """``sha256`` is "" where the old registry knew only an MD5. ``datafile`` is its path below the image folder."""

    collection: OldCollection
    name: str
    said_name: str
    tag: str
    sha256: str
    version: str
    frozen: bool
    datafile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRegistry:
    """``remarks`` tell what was left out or renamed, and why."""

    users: tuple[OldUser, ...]
    collections: tuple[OldCollection, ...]
    containers: tuple[OldContainer, ...]
    remarks: tuple[str, ...]


def read_dump(records: Iterable[Mapping[str, Any]]) -> OldRegistry:
    """What the records of ``manage.py dumpdata`` tell."""
    tables: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for record in records:
        tables.setdefault(str(record.get("model", "")).lower(), {})[record.get("pk")] = record.get(
            "fields", {}
        )
    remarks: list[str] = []
    users = _set_apart(
        {pk: _user(fields, remarks) for pk, fields in _table(tables, "users.user", "auth.user")},
        lambda user: "user",
        remarks,
    )
    collections = _set_apart(
        {pk: _collection(fields, users, remarks) for pk, fields in _table(tables, "main.collection")},
        lambda collection: f"collection of {collection.entity}",
        remarks,
    )
    files = dict(_table(tables, "api.imagefile", "main.imagefile"))
    containers = []
    for _pk, fields in _table(tables, "main.container"):
        made = _container(fields, collections, files, remarks)
        if made is not None:
            containers.append(made)
    return OldRegistry(
        users=tuple(users.values()),
        collections=tuple(collections.values()),
        containers=tuple(containers),
        remarks=tuple(remarks),
    )


def _table(
    tables: Mapping[str, Mapping[Any, Mapping[str, Any]]], *names: str
) -> Iterable[tuple[Any, Mapping[str, Any]]]:
    for name in names:
        yield from tables.get(name, {}).items()


def _set_apart[T: (OldUser, OldCollection)](
    found: Mapping[Any, T], kind: Callable[[T], str], remarks: list[str]
) -> dict[Any, T]:
    """Two that are called the same here, but were not there, stay two: one must not get what the other one hid."""
    taken = {(kind(one), one.name) for one in found.values() if one.name == one.said_name}
    apart: dict[Any, T] = {}
    for pk, one in found.items():
        name, number = one.name, 1
        while one.name != one.said_name and (kind(one), name) in taken:
            number += 1
            name = f"{one.name[: NAME_MAX_CHARS - 8]}-{number}"
        if number > 1:
            remarks.append(
                f"{kind(one)} '{one.said_name}' is called '{name}' here: '{one.name}' is another one"
            )
        taken.add((kind(one), name))
        apart[pk] = replace(one, name=name)
    return apart


def _renamed(said: str, what: str, remarks: list[str]) -> str:
    name = container_name_of(said)
    if name != said:
        remarks.append(f"{what} '{said}' is called '{name}' here")
    return name


def _user(fields: Mapping[str, Any], remarks: list[str]) -> OldUser:
    said = str(fields.get("username", ""))
    real = f"{fields.get('first_name', '')} {fields.get('last_name', '')}".strip()
    return OldUser(
        name=_renamed(said, "user", remarks),
        said_name=said,
        password=str(fields.get("password", "")),
        email=str(fields.get("email") or ""),
        real_name=real,
        admin=bool(fields.get("is_superuser") or fields.get("admin")),
        active=bool(fields.get("is_active", True)),
    )


def _collection(fields: Mapping[str, Any], users: Mapping[Any, OldUser], remarks: list[str]) -> OldCollection:
    said = str(fields.get("name", ""))
    owners = [users[pk].name for pk in fields.get("owners") or () if pk in users]
    if not owners:
        remarks.append(f"collection '{said}' has no owner; it goes to '{_ORPHANED}'")
    others = [users[pk].name for pk in fields.get("contributors") or () if pk in users]
    return OldCollection(
        entity=owners[0] if owners else _ORPHANED,
        name=_renamed(said, "collection", remarks),
        said_name=said,
        private=bool(fields.get("private")),
        contributors=tuple(dict.fromkeys([*owners[1:], *others])),
    )


def _container(
    fields: Mapping[str, Any],
    collections: Mapping[Any, OldCollection],
    files: Mapping[Any, Mapping[str, Any]],
    remarks: list[str],
) -> OldContainer | None:
    said, tag = str(fields.get("name", "")), str(fields.get("tag", "latest"))
    collection = collections.get(fields.get("collection"))
    if collection is None:
        remarks.append(f"container '{said}:{tag}' is in no collection; it was left out")
        return None
    if tag.startswith(_DUMMY):
        remarks.append(f"container '{collection.said_name}/{said}' was never uploaded whole; it was left out")
        return None
    version = str(fields.get("version") or "")
    digest = version.removeprefix("sha256.").lower()
    file = files.get(fields.get("image")) or {}
    return OldContainer(
        collection=collection,
        name=_renamed(said, "container", remarks),
        said_name=said,
        tag=tag,
        sha256=digest if SHA256_HEX.fullmatch(digest) else "",
        version=version,
        frozen=bool(fields.get("frozen")),
        datafile=str(file.get("datafile") or "").lstrip("/"),
    )
