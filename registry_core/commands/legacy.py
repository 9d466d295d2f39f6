"""Owns ``registry import-sregistry``."""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import click

from registry_core.commands.frame import FAILED, with_registry
from registry_core.registry import Registry
from registry_core.service.legacy import Folders, take_over
from registry_core.service.legacy_dump import read_dump

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("import-sregistry")
@click.option(
    "--dump",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What 'manage.py dumpdata users api main' wrote (JSON, or .gz of it).",
)
@click.option("--images", type=_FOLDER, help="The old image folder (/var/www/images).")
@click.option("--minio", type=_FOLDER, help="MinIO's data folder, or the bucket's folder in it.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@with_registry
def import_sregistry(
    registry: Registry, *, dump: Path, images: Path | None, minio: Path | None, dry_run: bool
) -> None:
    """Take over users, collections and images of an old Singularity Registry. It may be repeated.

    Old tokens are not in a dump: everybody makes new ones. Exit 1 if anything was skipped.
    """
    text = gzip.decompress(dump.read_bytes()) if dump.suffix == ".gz" else dump.read_bytes()
    try:
        records = json.loads(text)
    except ValueError as exc:
        raise click.BadParameter(f"{dump} is not JSON: {exc}") from exc
    if not isinstance(records, list) or not all(_is_record(one) for one in records):
        raise click.BadParameter(f"{dump} is not a list of records, as dumpdata writes it.")
    counted: Counter[str] = Counter()
    for line in take_over(registry, read_dump(records), Folders(images=images, minio=minio), dry_run=dry_run):
        counted[line.outcome] += 1
        click.echo(f"{line.outcome}  {line.what}{f'  ({line.why})' if line.why else ''}")
    would = " would be" if dry_run else ""
    click.echo(
        f"{counted['made']}{would} made, {counted['kept']} here already, {counted['skipped']} skipped.",
        err=True,
    )
    if counted["skipped"]:
        sys.exit(FAILED)


def _is_record(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return isinstance(value.get("fields", {}), dict) and isinstance(value.get("pk"), int | str | None)
