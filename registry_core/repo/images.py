"""Owns the queries about images, tags, uploads and commits."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from registry_core.model import Collection, Container, Entity, Image, Tag, TagMove, Upload
from registry_core.repo.accounts import changed_rows, inserted_id
from registry_core.repo.rows import one, value, width
from registry_core.repo.schema import (
    collections,
    commits,
    containers,
    entities,
    images,
    tag_moves,
    tags,
    uploads,
)

_BY_DIGEST: Final = select(images).where(
    images.c.container_id == bindparam("container_id"), images.c.sha256 == bindparam("sha256")
)
_BY_TAG: Final = (
    select(*images.c, tags.c.arch)
    .join_from(tags, images, tags.c.image_id == images.c.id)
    .where(tags.c.container_id == bindparam("container_id"), tags.c.name == bindparam("tag"))
    .order_by(tags.c.arch)
)
_TAG_NAMES: Final = (
    select(tags.c.name).where(tags.c.image_id == bindparam("image_id")).distinct().order_by(tags.c.name)
)


def by_id(db: Connection, image_id: int) -> Image | None:
    return one(Image, db.execute(select(images).where(images.c.id == image_id)).first())


def by_digest(db: Connection, container_id: int, sha256: str) -> Image | None:
    return one(Image, db.execute(_BY_DIGEST, {"container_id": container_id, "sha256": sha256}).first())


def by_tag(db: Connection, container_id: int, tag: str) -> dict[str, Image]:
    """The images that a tag names, by architecture."""
    rows = db.execute(_BY_TAG, {"container_id": container_id, "tag": tag})
    return {row[-1]: value(Image, row) for row in rows}


def tag_names(db: Connection, image_id: int) -> list[str]:
    """The tags that name an image."""
    return list(db.execute(_TAG_NAMES, {"image_id": image_id}).scalars())


def tags_in(db: Connection, container_id: int) -> list[Tag]:
    found = select(tags).where(tags.c.container_id == container_id).order_by(tags.c.name, tags.c.arch)
    return [value(Tag, row) for row in db.execute(found)]


def tag_rows(db: Connection, container_id: int, name: str) -> list[Tag]:
    """One tag's rows, one per architecture."""
    found = select(tags).where(tags.c.container_id == container_id, tags.c.name == name)
    return [value(Tag, row) for row in db.execute(found)]


def images_in(db: Connection, container_id: int) -> list[Image]:
    """The uploaded images of a container, newest first."""
    found = (
        select(images)
        .where(images.c.container_id == container_id, images.c.uploaded == true())
        .order_by(images.c.created_at.desc(), images.c.id.desc())
    )
    return [value(Image, row) for row in db.execute(found)]


def with_digest(db: Connection, sha256: str) -> list[tuple[Entity, Collection, Container, Image]]:
    """Every uploaded image with these bytes, with its place."""
    return places_of(db, images.c.sha256 == sha256)


def places_of(
    db: Connection, condition: ColumnElement[bool], *, limit: int | None = None
) -> list[tuple[Entity, Collection, Container, Image]]:
    """The uploaded images that fulfil ``condition`` (on the four joined tables), newest first."""
    found = (
        select(*entities.c, *collections.c, *containers.c, *images.c)
        .select_from(
            entities.join(collections, collections.c.entity_id == entities.c.id)
            .join(containers, containers.c.collection_id == collections.c.id)
            .join(images, images.c.container_id == containers.c.id)
        )
        .where(images.c.uploaded == true(), condition)
        .order_by(images.c.created_at.desc(), images.c.id.desc())
        .limit(limit)
    )
    second = width(Entity)
    third = second + width(Collection)
    fourth = third + width(Container)
    return [
        (
            value(Entity, row),
            value(Collection, row, second),
            value(Container, row, third),
            value(Image, row, fourth),
        )
        for row in db.execute(found)
    ]


def tag_names_of(db: Connection, image_ids: Iterable[int]) -> dict[int, list[str]]:
    """The tags of several images."""
    found = select(tags.c.image_id, tags.c.name).where(tags.c.image_id.in_(list(image_ids))).distinct()
    named: dict[int, list[str]] = {}
    for row in db.execute(found.order_by(tags.c.name)):
        named.setdefault(row.image_id, []).append(row.name)
    return named


def add_image(db: Connection, **columns: Any) -> int:
    """A new image's id."""
    return inserted_id(db.execute(insert(images).values(**columns)))


def change_image(db: Connection, image_id: int, **columns: Any) -> None:
    db.execute(update(images).where(images.c.id == image_id).values(**columns))


def delete_image(db: Connection, image_id: int) -> None:
    db.execute(delete(images).where(images.c.id == image_id))


def delete_unfinished(db: Connection, *, before: int) -> int:
    """Remove images whose bytes never came; returns how many."""
    gone = delete(images).where(
        images.c.uploaded.is_(False),
        images.c.created_at < before,
        images.c.id.not_in(select(uploads.c.image_id).where(uploads.c.created_at >= before)),
    )
    return changed_rows(db.execute(gone))


def set_tag(db: Connection, *, container_id: int, name: str, arch: str, **columns: Any) -> None:
    """Let a tag name an image, whatever it named before."""
    here = (tags.c.container_id == container_id, tags.c.name == name, tags.c.arch == arch)
    if not changed_rows(db.execute(update(tags).where(*here).values(**columns))):
        db.execute(
            insert(tags).values(container_id=container_id, name=name, arch=arch, frozen=False, **columns)
        )


def freeze_tag(db: Connection, *, container_id: int, name: str, frozen: bool) -> bool:
    """False if there is no such tag."""
    here = (tags.c.container_id == container_id, tags.c.name == name)
    return changed_rows(db.execute(update(tags).where(*here).values(frozen=frozen))) > 0


def delete_tag(db: Connection, *, container_id: int, name: str, arch: str) -> None:
    here = (tags.c.container_id == container_id, tags.c.name == name, tags.c.arch == arch)
    db.execute(delete(tags).where(*here))


def add_tag_move(db: Connection, **columns: Any) -> None:
    db.execute(insert(tag_moves).values(**columns))


def tag_history(db: Connection, container_id: int, *, limit: int) -> list[TagMove]:
    """The newest moves first."""
    found = (
        select(tag_moves)
        .where(tag_moves.c.container_id == container_id)
        .order_by(tag_moves.c.id.desc())
        .limit(limit)
    )
    return [value(TagMove, row) for row in db.execute(found)]


def used_bytes(db: Connection, *, entity_id: int) -> tuple[int, Mapping[int, int]]:
    """The bytes of an entity, and of each of its collections by id."""
    found = (
        select(collections.c.id, func.coalesce(func.sum(images.c.size), 0))
        .select_from(
            collections.join(containers, containers.c.collection_id == collections.c.id).join(
                images, images.c.container_id == containers.c.id
            )
        )
        .where(collections.c.entity_id == entity_id, images.c.uploaded == true())
        .group_by(collections.c.id)
    )
    each = {row[0]: int(row[1]) for row in db.execute(found)}
    return sum(each.values()), each


def count_downloads(db: Connection, by_image: Mapping[int, int]) -> None:
    """Add to the counters of images and their containers."""
    for image_id, times in sorted(by_image.items()):
        db.execute(update(images).where(images.c.id == image_id).values(downloads=images.c.downloads + times))
        db.execute(
            update(containers)
            .where(
                containers.c.id
                == select(images.c.container_id).where(images.c.id == image_id).scalar_subquery()
            )
            .values(downloads=containers.c.downloads + times)
        )


def add_upload(db: Connection, **columns: Any) -> None:
    db.execute(insert(uploads).values(**columns))


def upload_by_id(db: Connection, upload_id: str) -> Upload | None:
    return one(Upload, db.execute(select(uploads).where(uploads.c.id == upload_id)).first())


def uploads_of(db: Connection, image_id: int, user_id: int) -> list[Upload]:
    """A user's pushes of an image that are under way, newest first."""
    found = select(uploads).where(uploads.c.image_id == image_id, uploads.c.user_id == user_id)
    return [value(Upload, row) for row in db.execute(found.order_by(uploads.c.created_at.desc()))]


def delete_upload(db: Connection, upload_id: str) -> None:
    db.execute(delete(uploads).where(uploads.c.id == upload_id))


def delete_old_uploads(db: Connection, *, before: int) -> None:
    db.execute(delete(uploads).where(uploads.c.created_at < before))


def commit_answer(db: Connection, ticket: str) -> str | None:
    """The answer that a ticket's commit got."""
    found = db.execute(select(commits.c.answer).where(commits.c.ticket == ticket)).scalar()
    return None if found is None else str(found)


def add_commit(db: Connection, *, ticket: str, answer: str, now: int) -> None:
    db.execute(insert(commits).values(ticket=ticket, answer=answer, at=now))


def delete_old_commits(db: Connection, *, before: int) -> None:
    db.execute(delete(commits).where(commits.c.at < before))


_KEY: Final = (
    entities.c.name
    + "/"
    + collections.c.name
    + "/"
    + containers.c.name
    + literal(":sha256.")
    + images.c.sha256
)
_KEYED: Final = (
    images.join(containers, images.c.container_id == containers.c.id)
    .join(collections, containers.c.collection_id == collections.c.id)
    .join(entities, collections.c.entity_id == entities.c.id)
)


def sizes_by_key(db: Connection) -> dict[str, int]:
    """The store key of every uploaded image, with its bytes."""
    found = select(_KEY, images.c.size).select_from(_KEYED).where(images.c.uploaded == true())
    return {str(row[0]): int(row[1]) for row in db.execute(found)}


def keys_in_use(db: Connection) -> set[str]:
    """The store key of every uploaded image."""
    return set(sizes_by_key(db))


def key_in_use(db: Connection, key: str) -> bool:
    """Whether an uploaded image has this store key."""
    digest = key.rpartition(".")[2]
    found = (
        select(images.c.id)
        .select_from(_KEYED)
        .where(images.c.sha256 == digest, images.c.uploaded == true(), _KEY.in_([key]))
        .limit(1)
    )
    return db.execute(found).first() is not None
