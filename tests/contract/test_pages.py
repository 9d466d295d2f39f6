"""Owns what must hold of the pages' queries: they say the same on both databases."""

from typing import Final

import pytest

from registry_core.policy import Actor, Scope
from registry_core.service import accounts, administration, browse
from tests.contract.conftest import OpenCore
from tests.support.core import Core
from tests.support.visitor import Visitor, add_person

PATHS: Final = (
    "/", "/search?q=tool", "/collections", "/collections/ann", "/collections/ann/one", "/collections/ann/one/tool",
    "/collections/ann/one/tool/v1", "/upload", "/tokens", "/account", "/admin", "/admin/users", "/admin/maintenance",
    "/admin/audit",
)  # fmt: skip


@pytest.fixture
def filled(new_core: OpenCore) -> tuple[Core, Visitor]:
    """Three images, two of equal bytes, in two collections; and an upload without its bytes."""
    core = new_core()
    ann = add_person(core, "ann", admin=True)
    core.upload(bytes(1000), by="ann", collection="ann/one", name="tool", tag="v1")
    core.upload(bytes(2000), by="ann", collection="ann/one", name="other", tag="v1")
    core.upload(bytes(1000), by="ann", collection="ann/two", name="tool", tag="v2")
    with core.registry.database.write() as db:
        db.exec_driver_sql(
            "INSERT INTO images (container_id, sha256, size, uploaded, arch, description, fingerprints, downloads,"
            " created_by, created_at, updated_at) SELECT min(id), 'f00', 0, false, '', '', '', 0, 'ann', 1, 1"
            " FROM containers"
        )
    return core, ann


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_shown(filled: tuple[Core, Visitor], path: str) -> None:
    assert filled[1].get(path).status == 200


def test_lists_count_what_has_arrived(filled: tuple[Core, Visitor]) -> None:
    registry = filled[0].registry
    user = accounts.find_user(registry, "ann")
    ann = Actor(user_id=user.id, name="ann", admin=False, scope=Scope.ADMIN)
    lines, more = browse.list_collections(registry, ann)
    assert not more
    counted = [(line.collection.name, line.containers, line.images, line.size) for line in lines]
    assert counted == [("one", 2, 2, 3000), ("two", 1, 1, 1000)]
    view = browse.collection(registry, ann, "ann", "one")
    assert [(line.container.name, line.images, line.size, line.tags) for line in view.lines] == [
        ("other", 1, 2000, ("v1",)),
        ("tool", 1, 1000, ("v1",)),
    ]
    assert [line.collection.name for line in browse.home(registry, ann).own] == ["two", "one"]


def test_the_overview_counts_equal_bytes_once(filled: tuple[Core, Visitor]) -> None:
    seen = administration.overview(filled[0].registry)
    assert (seen.images, seen.listed, seen.stored, seen.trashed) == (3, 4000, 3000, 0)
    assert [(one.name, one.owner, one.images, one.size) for one in seen.entities] == [("ann", "ann", 3, 4000)]
