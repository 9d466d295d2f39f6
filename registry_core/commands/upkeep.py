"""Owns ``registry gc``, ``fsck``, ``backup``, ``restore`` and ``usage``."""

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

from registry_core.commands.collections import every_collection
from registry_core.commands.frame import FAILED, print_table, require_same_store, with_registry
from registry_core.registry import Registry
from registry_core.service import backup as backups
from registry_core.service import checking, cleaning
from registry_core.service.quota import human


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@with_registry
def gc(registry: Registry, *, dry_run: bool) -> None:
    """Remove the bytes of images that were deleted long enough ago."""
    require_same_store(registry.settings)
    done = cleaning.clean(registry, dry_run=dry_run)
    for key in done.removed_keys:
        click.echo(f"{'would remove' if dry_run else 'removed'}  {key}")
    for key in done.new_orphans:
        click.echo(f"{'would go' if dry_run else 'went'} to the trash  {key}")
    would = "would be " if dry_run else ""
    click.echo(
        f"{human(done.freed_bytes)} {would}freed; {len(done.removed_keys)} keys {would}removed,"
        f" {done.waiting} wait in the trash, {done.unfinished} unfinished pushes {would}forgotten,"
        f" {done.swept} staged files {would}swept.",
        err=True,
    )


@click.command()
@click.option("--quick", is_flag=True, help="Compare names and sizes, but do not read the bytes.")
@click.option("--repair", is_flag=True, help="Give missing keys to bytes that are stored under another one.")
@with_registry
def fsck(registry: Registry, *, quick: bool, repair: bool) -> None:
    """Compare database and store, both ways, and verify every digest. Exit 1 if images are damaged."""
    require_same_store(registry.settings)
    counted: Counter[str] = Counter()
    for fault in checking.check(registry, digests=not quick, repair=repair):
        counted[fault.kind] += 1
        click.echo(f"{fault.kind}  {fault.key}  {fault.detail}")
    damaged = sum(number for kind, number in counted.items() if kind != "orphan")
    click.echo(
        f"{damaged} damaged, {counted['orphan']} orphans (gc removes those)." if counted else "All is well.",
        err=True,
    )
    if damaged:
        sys.exit(FAILED)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_registry
def backup(registry: Registry, *, file: Path) -> None:
    """Write the whole database and the list of blobs to FILE. Copy the blobs with any tool, after it."""
    require_same_store(registry.settings)
    written = backups.backup(registry, file)
    click.echo(f"{written.rows} rows and {written.blobs} blobs are in {file}.", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_registry
def restore(registry: Registry, *, file: Path) -> None:
    """Replace the database by what FILE holds. What was there is saved beside it first."""
    require_same_store(registry.settings)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    saved = registry.settings.data_dir / f"before-restore-{stamp}.backup"
    backups.backup(registry, saved)
    done = backups.restore(registry, file)
    for key in done.missing:
        click.echo(f"missing  {key}")
    click.echo(
        f"{done.rows} rows were restored, {len(done.missing)} of {done.blobs} blobs are missing in the store."
        f" The database as it was is in {saved}.",
        err=True,
    )


@click.command()
@with_registry
def usage(registry: Registry) -> None:
    """Bytes by collection."""
    rows = [
        (f"{line.entity.name}/{line.collection.name}", str(line.images), human(line.size))
        for line in sorted(every_collection(registry), key=lambda line: -line.size)
    ]
    print_table(("COLLECTION", "IMAGES", "SIZE"), rows)
