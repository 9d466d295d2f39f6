"""Owns ``registry collection``: what an administrator changes about collections on the machine itself."""

import re
from collections.abc import Iterator
from itertools import count
from typing import Final

import click

from gateway.contract import parse_collection
from gateway.errors import BadForm
from registry_core.commands.frame import MACHINE, print_table, with_registry
from registry_core.names import parse_container_path
from registry_core.registry import Registry
from registry_core.service import browse, limits, removal, stewardship
from registry_core.service.quota import human

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(b|k|m|g|t|kib|mib|gib|tib)?", re.IGNORECASE)
_POWERS: Final = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """``10G`` or ``0``. Raises: BadForm."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise BadForm(f"'{text}' is not a size: write bytes, or 500M, 20G, 1.5T.")
    return int(float(found[1]) * 1024 ** _POWERS[(found[2] or "b")[0].lower()])


def every_collection(registry: Registry) -> Iterator[browse.CollectionLine]:
    """All collections, by name."""
    for page in count(1):
        lines, more = browse.list_collections(registry, MACHINE, page=page)
        yield from lines
        if not more:
            return


@click.group()
def collection() -> None:
    """Collections."""


@collection.command("list")
@with_registry
def list_collections(registry: Registry) -> None:
    """All collections."""
    rows = [
        (
            f"{line.entity.name}/{line.collection.name}",
            "private" if line.collection.private else "public",
            str(line.containers),
            str(line.images),
            human(line.size),
            human(line.collection.quota_bytes) if line.collection.quota_bytes else "-",
        )
        for line in every_collection(registry)
    ]
    print_table(("COLLECTION", "SEEN BY", "CONTAINERS", "IMAGES", "SIZE", "QUOTA"), rows)


@collection.command("private")
@click.argument("path", metavar="ENTITY/COLLECTION")
@with_registry
def make_private(registry: Registry, *, path: str) -> None:
    """Show a collection to its owner and members only."""
    stewardship.change_collection(registry, MACHINE, *parse_collection(path), private=True)


@collection.command("public")
@click.argument("path", metavar="ENTITY/COLLECTION")
@with_registry
def make_public(registry: Registry, *, path: str) -> None:
    """Show a collection to everybody."""
    stewardship.change_collection(registry, MACHINE, *parse_collection(path), private=False)


@collection.command("quota")
@click.argument("path", metavar="ENTITY[/COLLECTION]")
@click.argument("size")
@with_registry
def set_quota(registry: Registry, *, path: str, size: str) -> None:
    """Bytes that an entity or a collection may hold: 500M, 20G; 0 = no limit of its own."""
    limits.set_quota(registry, MACHINE, path, parse_size(size))


@collection.command("member")
@click.argument("path", metavar="ENTITY/COLLECTION")
@click.argument("user_name", metavar="USER")
@click.argument("role", type=click.Choice(["contributor", "reader", "none"]))
@with_registry
def set_member(registry: Registry, *, path: str, user_name: str, role: str) -> None:
    """Let a user push (contributor) or pull (reader); none takes it away."""
    stewardship.set_member(
        registry, MACHINE, *parse_collection(path), user=user_name, role=None if role == "none" else role
    )


@collection.command("contributor")
@click.argument("path", metavar="ENTITY/COLLECTION")
@click.argument("user_name", metavar="USER")
@with_registry
def add_contributor(registry: Registry, *, path: str, user_name: str) -> None:
    """Let a user push; short for 'member … contributor'."""
    stewardship.set_member(registry, MACHINE, *parse_collection(path), user=user_name, role="contributor")


@collection.command("freeze")
@click.argument("ref", metavar="ENTITY/COLLECTION/CONTAINER:TAG")
@click.option("--thaw", is_flag=True, help="Let the tag be moved again.")
@with_registry
def freeze(registry: Registry, *, ref: str, thaw: bool) -> None:
    """Let a tag keep its image for ever."""
    path, _, tag = ref.partition(":")
    names = parse_container_path(path)
    stewardship.freeze_tag(registry, MACHINE, *names, tag=tag, frozen=not thaw)


@collection.command("delete")
@click.argument("path", metavar="ENTITY/COLLECTION")
@with_registry
def delete(registry: Registry, *, path: str) -> None:
    """Delete a collection with its images. The bytes stay in the trash for a while."""
    removal.delete_collection(registry, MACHINE, *parse_collection(path))
