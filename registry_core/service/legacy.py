"""Owns taking over an old Singularity Registry (sregistry): accounts, collections, images. It may be repeated."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.contract import Commit, CommittedImage, Ticket, parse_tag, seal
from gateway.errors import BadForm, GatewayError
from gateway.store.keys import blob_key
from registry_core.registry import Registry
from registry_core.repo import accounts, catalog, images, journal
from registry_core.service import commits, places
from registry_core.service.accounts import own_entity
from registry_core.service.legacy_dump import OldCollection, OldContainer, OldRegistry, OldUser

_BY: Final = "(import)"
_CHUNK: Final = 1 << 20
_BUCKET: Final = "sregistry"
# Where the old containers mounted the image folder; paths in the dump may begin so.
_MOUNTS: Final = ("var/www/images/", "images/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """``images``: the old /var/www/images; ``minio``: MinIO's data folder or the bucket in it."""

    images: Path | None
    minio: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the report. ``outcome``: made, kept (was here already), skipped."""

    outcome: str
    what: str
    why: str = ""


def take_over(registry: Registry, old: OldRegistry, folders: Folders, *, dry_run: bool) -> Iterator[Line]:
    """Bring everything in, telling of each thing. With ``dry_run`` nothing is changed."""
    for user in old.users:
        yield _take_user(registry, user, dry_run=dry_run)
    for collection in old.collections:
        yield _take_collection(registry, collection, dry_run=dry_run)
    for container in old.containers:
        try:
            yield _take_image(registry, container, folders, dry_run=dry_run)
        except GatewayError as exc:
            yield Line(outcome="skipped", what=_named(container), why=exc.message)
    for remark in old.remarks:
        yield Line(outcome="note", what=remark)


def _take_user(registry: Registry, user: OldUser, *, dry_run: bool) -> Line:
    what = f"user {user.name}"
    with registry.database.read() as db:
        if accounts.user_by_name(db, user.name) is not None:
            return Line(outcome="kept", what=what)
    if dry_run:
        return Line(outcome="made", what=what)
    usable = user.password.startswith("pbkdf2_sha256$")
    with registry.database.write() as db:
        user_id = accounts.add_user(
            db,
            name=user.name,
            password=user.password if usable else "",
            admin=user.admin,
            robot=False,
            disabled=not user.active,
            email=user.email[:320],
            real_name=user.real_name[:256],
            created_at=registry.now,
        )
        own_entity(registry, db, user_id=user_id, name=user.name)
        journal.add_line(db, at=registry.now, actor=_BY, action="user.add", what=user.name)
    return Line(outcome="made", what=what, why="" if usable else "needs a new password")


def _take_collection(registry: Registry, old: OldCollection, *, dry_run: bool) -> Line:
    what = f"collection {old.entity}/{old.name}"
    with registry.database.read() as db:
        if catalog.place_by_names(db, None, old.entity, old.name).collection is not None:
            return Line(outcome="kept", what=what)
    if dry_run:
        return Line(outcome="made", what=what)
    with registry.database.write() as db:
        entity = places.ensure_entity(registry, db, _BY, old.entity)
        made = places.ensure_collection(
            registry, db, _BY, entity, old.name, private=old.private, owner_id=entity.owner_id
        )
        for name in old.contributors:
            member = accounts.user_by_name(db, name)
            if member is not None:
                catalog.set_member(db, collection_id=made.id, user_id=member.id, role="contributor")
    return Line(outcome="made", what=what, why="private" if old.private else "")


def _named(old: OldContainer) -> str:
    return f"image {old.collection.entity}/{old.collection.name}/{old.name}:{old.tag}"


def _take_image(registry: Registry, old: OldContainer, folders: Folders, *, dry_run: bool) -> Line:
    what = _named(old)
    try:
        tag = parse_tag(old.tag)
    except BadForm as exc:
        return Line(outcome="skipped", what=what, why=exc.message)
    if _is_here(registry, old, tag):
        return Line(outcome="kept", what=what)
    path = find_file(old, folders)
    if path is None:
        return Line(outcome="skipped", what=what, why="its file was not found in the folders that were given")
    if dry_run:
        return Line(outcome="made", what=what, why=str(path))
    digest, size = _store(registry, old, path)
    if old.sha256 and digest != old.sha256:
        return Line(outcome="skipped", what=what, why=f"{path} has the SHA-256 {digest}, not {old.sha256}")
    _list(registry, old, tag, digest, size)
    return Line(outcome="made", what=what, why=str(path))


def _is_here(registry: Registry, old: OldContainer, tag: str) -> bool:
    with registry.database.read() as db:
        place = catalog.place_by_names(db, None, old.collection.entity, old.collection.name, old.name)
        return place.container is not None and bool(images.by_tag(db, place.container.id, tag))


def find_file(old: OldContainer, folders: Folders) -> Path | None:
    """The file of an old image: in MinIO's folder by digest, in the image folder by its path."""
    candidates: list[Path] = []
    if folders.minio is not None and old.version:
        key = f"{old.collection.said_name}/{old.said_name}:{old.version}"
        candidates += [folders.minio / key, folders.minio / _BUCKET / key]
    if folders.images is not None:
        below = old.datafile
        for mount in _MOUNTS:
            below = below.removeprefix(mount)
        if below:
            candidates.append(folders.images / below)
        name = f"{old.said_name}:{old.tag}@{old.version.removeprefix('sha256.')}.sif"
        candidates.append(folders.images / old.collection.said_name / name)
    roots = [root.resolve() for root in (folders.minio, folders.images) if root is not None]
    for path in candidates:
        if "\0" in str(path):
            continue  # no file has such a name
        inside = any(path.resolve().is_relative_to(root) for root in roots)
        if inside and path.is_file():
            return path
    return None


def _store(registry: Registry, old: OldContainer, path: Path) -> tuple[str, int]:
    """Copy the file into the store, unless its digest turns out to be another than was promised."""
    digest, size = hashlib.sha256(), 0
    staged = hashlib.sha256(f"{path}".encode()).hexdigest()[:32]
    registry.store.discard_staged(staged)
    writer = registry.store.create(staged, size_hint=path.stat().st_size)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
        found = digest.hexdigest()
        if old.sha256 and found != old.sha256:
            writer.discard()
            return found, size
        key = blob_key(old.collection.entity, old.collection.name, old.name, found)
        registry.store.place(writer.seal(), sha256=found, key=key)
    except BaseException:
        writer.discard()
        raise
    return found, size


def _list(registry: Registry, old: OldContainer, tag: str, digest: str, size: int) -> None:
    """The same act that lists every other upload; its ticket's id makes a repetition harmless."""
    where = f"{old.collection.entity}/{old.collection.name}/{old.name}:{tag}@{digest}"
    ticket = Ticket(
        kind="web",
        id=hashlib.sha256(f"import {where}".encode()).hexdigest()[:32],
        entity=old.collection.entity,
        collection=old.collection.name,
        user=old.collection.entity,
        expires=registry.now,
    )
    told = CommittedImage(sha256=digest, size=size, name=old.name, tag=tag)
    commits.commit(registry, Commit(ticket=seal(registry.secret, ticket), images=(told,)))
    if old.frozen:
        with registry.database.write() as db:
            place = catalog.place_by_names(db, None, ticket.entity, ticket.collection, old.name)
            if place.container is not None:
                images.freeze_tag(db, container_id=place.container.id, name=tag, frozen=True)
