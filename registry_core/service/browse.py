"""Owns what pages show of collections and images: each view in a few queries, and only what the asker may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, or_, select

from gateway.errors import NotFound, StoreError
from gateway.store.keys import blob_key
from registry_core import sif
from registry_core.model import Collection, Container, Entity, Image, Place, Tag, TagMove
from registry_core.names import ImageRef
from registry_core.policy import Actor, Rights
from registry_core.registry import Registry
from registry_core.repo import catalog, images
from registry_core.repo.rows import value, width
from registry_core.repo.schema import collections, containers, entities, members
from registry_core.repo.schema import images as image_table
from registry_core.repo.schema import tags as tag_table
from registry_core.service import places, pull, quota
from registry_core.service.commits import range_reader
from registry_core.service.search import Hit

PAGE_ROWS: Final = 50
RECENT: Final = 8
_HOME_COLLECTIONS: Final = 12
_HISTORY_LINES: Final = 100
# Header, descriptors and the small objects lie at the beginning of every image that real tools make.
_READ_AHEAD: Final = 64 * 1024
# Not as a condition of the join: SQLite would then walk the index of all uploaded images for every container.
# What is not uploaded has no size yet.
_IMAGES: Final = func.coalesce(func.sum(case((image_table.c.uploaded, 1), else_=0)), 0)
_BYTES: Final = func.coalesce(func.sum(image_table.c.size), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionLine:
    """A collection in a list."""

    entity: Entity
    collection: Collection
    containers: int
    images: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeView:
    own: tuple[CollectionLine, ...]
    public: tuple[CollectionLine, ...]
    recent: tuple[Hit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLine:
    """A container in a list, with its tags."""

    container: Container
    images: int
    size: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionView:
    entity: Entity
    collection: Collection
    rights: Rights
    lines: tuple[ContainerLine, ...]
    members: tuple[tuple[str, str], ...]
    usage: quota.Usage | None

    @property
    def size(self) -> int:
        return sum(line.size for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedImage:
    """One row of a container's table: a tag, or an image that no tag names (``tag`` None)."""

    tag: Tag | None
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    entity: Entity
    collection: Collection
    container: Container
    rights: Rights
    rows: tuple[TaggedImage, ...]
    history: tuple[TagMove, ...]
    size: int
    known: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """``arches`` are those that the same tag has, ``head`` None where the file is no SIF image."""

    entity: Entity
    collection: Collection
    container: Container
    image: Image
    rights: Rights
    tag: str
    tags: tuple[Tag, ...]
    arches: tuple[str, ...]
    history: tuple[TagMove, ...]
    head: sif.SifHead | None
    texts: sif.SifTexts
    unreadable: bool


def home(registry: Registry, actor: Actor | None) -> HomeView:
    """One's own collections, the newest public ones, and the newest images that one may see."""
    # Administrators may see everything; here they are shown what is public or theirs, like everybody.
    public = catalog.visible_to(None, anonymous_pull=registry.anonymous_pull or actor is not None)
    owned = _owned_by(actor) if actor else false()
    with registry.database.read() as db:
        own = _collection_lines(db, owned, limit=PAGE_ROWS) if actor else ()
        shown = _collection_lines(db, public, limit=_HOME_COLLECTIONS)
        rows = images.places_of(db, or_(public, owned), limit=RECENT)
        named = images.tag_names_of(db, [row[3].id for row in rows])
    recent = tuple(
        Hit(entity=e, collection=c, container=n, image=i, tags=tuple(named.get(i.id, ())))
        for e, c, n, i in rows
    )
    return HomeView(own=own, public=shown, recent=recent)


def _owned_by(actor: Actor) -> ColumnElement[bool]:
    joined = select(members.c.collection_id).where(members.c.user_id == actor.user_id)
    return or_(
        entities.c.owner_id == actor.user_id,
        collections.c.owner_id == actor.user_id,
        collections.c.id.in_(joined),
    )


def _collection_lines(
    db: Connection, condition: ColumnElement[bool], *, limit: int, offset: int = 0, by_name: bool = False
) -> tuple[CollectionLine, ...]:
    order: Sequence[ColumnElement[Any]] = (
        (entities.c.name, collections.c.name)
        if by_name
        else (collections.c.updated_at.desc(), collections.c.id.desc())
    )
    found = (
        select(*entities.c, *collections.c)
        .join_from(entities, collections, collections.c.entity_id == entities.c.id)
        .where(condition)
        .order_by(*order)
        .limit(limit)
        .offset(offset)
    )
    pairs = [(value(Entity, row), value(Collection, row, width(Entity))) for row in db.execute(found)]
    # Counted only for those that are shown: counting all before choosing takes seconds in a large registry.
    counts = _counts(db, [chosen.id for _entity, chosen in pairs])
    return tuple(
        CollectionLine(
            entity=entity,
            collection=chosen,
            containers=counts.get(chosen.id, (0, 0, 0))[0],
            images=counts.get(chosen.id, (0, 0, 0))[1],
            size=counts.get(chosen.id, (0, 0, 0))[2],
        )
        for entity, chosen in pairs
    )


def _counts(db: Connection, ids: list[int]) -> dict[int, tuple[int, int, int]]:
    """Containers, images and bytes of some collections."""
    found = (
        select(containers.c.collection_id, func.count(containers.c.id.distinct()), _IMAGES, _BYTES)
        .select_from(containers.outerjoin(image_table, image_table.c.container_id == containers.c.id))
        .where(containers.c.collection_id.in_(ids))
        .group_by(containers.c.collection_id)
    )
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in db.execute(found)}


def list_collections(
    registry: Registry, actor: Actor | None, *, entity: str = "", page: int = 1
) -> tuple[tuple[CollectionLine, ...], bool]:
    """One page of the collections that ``actor`` may see, by name, and whether there are more."""
    condition = catalog.visible_to(actor, anonymous_pull=registry.anonymous_pull)
    if entity:
        condition = and_(condition, entities.c.name == entity)
    with registry.database.read() as db:
        lines = _collection_lines(
            db, condition, limit=PAGE_ROWS + 1, offset=(page - 1) * PAGE_ROWS, by_name=True
        )
    return lines[:PAGE_ROWS], len(lines) > PAGE_ROWS


def own_entities(registry: Registry, actor: Actor | None) -> list[str]:
    """The names of the entities in which ``actor`` may make collections."""
    if actor is None:
        return []
    with registry.database.read() as db:
        names = [entity.name for entity in catalog.entities_of(db, actor.user_id)]
    return names if actor.name in names else [actor.name, *names]


def pushable_collections(registry: Registry, actor: Actor | None) -> list[str]:
    """``entity/collection`` of every place that ``actor`` has anything to do with, for suggestions in a form."""
    if actor is None:
        return []
    with registry.database.read() as db:
        pairs = catalog.visible_collections(db, _owned_by(actor), limit=200)
    return [f"{entity.name}/{collection.name}" for entity, collection in pairs]


def own_usage(registry: Registry, actor: Actor) -> list[quota.Usage]:
    """What each of one's entities holds."""
    with registry.database.read() as db:
        return [quota.shown(registry, db, entity, None) for entity in catalog.entities_of(db, actor.user_id)]


def collection(registry: Registry, actor: Actor | None, entity: str, name: str) -> CollectionView:
    """Raises: NotFound, Unauthorized."""
    with registry.database.read() as db:
        place = catalog.place_by_names(db, actor, entity, name)
        rights = places.require(registry, actor, place, "pull")
        if place.entity is None or place.collection is None:
            raise NotFound(f"There is no collection {entity}/{name}.")
        lines = _container_lines(db, place.collection.id)
        roles = catalog.members_of(db, place.collection.id) if rights.manage else []
        limited = registry.settings.registry.quota_bytes or place.entity.quota_bytes
        shows_usage = rights.push and (limited or place.collection.quota_bytes)
        usage = quota.shown(registry, db, place.entity, place.collection) if shows_usage else None
    return CollectionView(
        entity=place.entity,
        collection=place.collection,
        rights=rights,
        lines=lines,
        members=tuple(roles),
        usage=usage,
    )


def _container_lines(db: Connection, collection_id: int) -> tuple[ContainerLine, ...]:
    named: dict[int, list[str]] = {}
    tagged = (
        select(tag_table.c.container_id, tag_table.c.name)
        .join_from(tag_table, containers, tag_table.c.container_id == containers.c.id)
        .where(containers.c.collection_id == collection_id)
        .group_by(tag_table.c.container_id, tag_table.c.name)
        .order_by(func.max(tag_table.c.updated_at).desc())
    )
    for row in db.execute(tagged):
        named.setdefault(row.container_id, []).append(row.name)
    found = (
        select(*containers.c, _IMAGES, _BYTES)
        .select_from(containers.outerjoin(image_table, image_table.c.container_id == containers.c.id))
        .where(containers.c.collection_id == collection_id)
        .group_by(containers.c.id)
        .order_by(containers.c.name)
    )
    lines = []
    for line in db.execute(found):
        made = value(Container, line)
        lines.append(
            ContainerLine(
                container=made,
                images=int(line[-2]),
                size=int(line[-1]),
                tags=tuple(named.get(made.id, ())),
            )
        )
    return tuple(lines)


def container(
    registry: Registry, actor: Actor | None, entity: str, collection_name: str, name: str
) -> ContainerView:
    """Raises: NotFound, Unauthorized."""
    with registry.database.read() as db:
        place = catalog.place_by_names(db, actor, entity, collection_name, name)
        rights = places.require(registry, actor, place, "pull")
        if place.container is None:
            raise NotFound(f"There is no container {entity}/{collection_name}/{name}.")
        shown = images.images_in(db, place.container.id)
        tags = images.tags_in(db, place.container.id)
        history = images.tag_history(db, place.container.id, limit=_HISTORY_LINES)
    by_id = {image.id: image for image in shown}
    rows = [TaggedImage(tag=tag, image=by_id[tag.image_id]) for tag in tags if tag.image_id in by_id]
    rows.sort(key=lambda row: row.tag.updated_at if row.tag else 0, reverse=True)
    tagged = {row.image.id for row in rows}
    rows += [TaggedImage(tag=None, image=image) for image in shown if image.id not in tagged]
    whole_entity, whole_collection, whole_container = places.whole(place)
    return ContainerView(
        entity=whole_entity,
        collection=whole_collection,
        container=whole_container,
        rights=rights,
        rows=tuple(rows),
        history=tuple(history),
        size=sum(image.size for image in shown),
        known=frozenset(image.sha256 for image in shown),
    )


def image(registry: Registry, actor: Actor | None, ref: ImageRef, *, arch: str = "") -> ImageView:
    """Raises: NotFound, Unauthorized."""
    found = pull.find_image(registry, actor, ref, arch=arch, uploaded_only=True)
    entity, in_collection, in_container = places.whole(found.place)
    with registry.database.read() as db:
        tags = images.tags_in(db, in_container.id)
        history = images.tag_history(db, in_container.id, limit=_HISTORY_LINES)
    head, texts, unreadable = _look_inside(registry, found.place, found.image)
    return ImageView(
        entity=entity,
        collection=in_collection,
        container=in_container,
        image=found.image,
        rights=places.rights_in(registry, actor, found.place),
        tag=found.tag,
        tags=tuple(tag for tag in tags if tag.image_id == found.image.id),
        arches=tuple(tag.arch for tag in tags if tag.name == found.tag),
        history=tuple(move for move in history if move.sha256 == found.image.sha256),
        head=head,
        texts=texts,
        unreadable=unreadable,
    )


def _look_inside(
    registry: Registry, place: Place, image_row: Image
) -> tuple[sif.SifHead | None, sif.SifTexts, bool]:
    entity, in_collection, in_container = places.whole(place)
    key = blob_key(entity.name, in_collection.name, in_container.name, image_row.sha256)
    try:
        read = _reading_ahead(range_reader(registry, key))
        return sif.read_head(read), sif.read_texts(read), False
    except (StoreError, NotFound):
        # The page is about more than the file's inside.
        return None, sif.SifTexts(), True


def _reading_ahead(read: sif.ReadRange) -> sif.ReadRange:
    """The same file, its beginning read at once: one open file (one request to S3) instead of four."""
    start = read(0, _READ_AHEAD)

    def read_cached(offset: int, length: int) -> bytes:
        if offset + length <= len(start) or len(start) < _READ_AHEAD:
            return start[offset : offset + length]
        return read(offset, length)

    return read_cached
