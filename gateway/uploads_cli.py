"""Owns ``gateway uploads ls | sweep``: what is on its way in, and what was left behind."""

import json
import sys
import time
from pathlib import Path

import click

from gateway.cli import load_settings, settings_options
from gateway.errors import GatewayError
from gateway.outbox_records import OutboxFolder
from gateway.settings import Settings
from gateway.store.base import StagedUpload
from gateway.store.opening import open_store
from gateway.upload.route_stores import RouteFiles, open_route_stores


@click.group()
def uploads() -> None:
    """Uploads in progress."""


@uploads.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def ls(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """List uploads in progress, those of upload routes too, and commits that wait for the core."""
    settings: Settings = load_settings(config, {"server.data_dir": data_dir}).settings
    staged, problems = find_uploads(settings)
    waiting = waiting_commits(settings)
    if as_json:
        click.echo(
            json.dumps({"uploads": [as_object(*found) for found in staged], "waiting_commits": waiting})
        )
    else:
        for route, upload in staged:
            click.echo(describe(route, upload, time.time()))
        click.echo(f"{len(staged)} uploads in progress, {waiting} commits wait for the core")
    for problem in problems:
        click.echo(f"gateway: not listed: {problem}", err=True)
    if problems:
        sys.exit(1)


@uploads.command()
@settings_options
@click.option(
    "--older-than", default=24.0, show_default=True, metavar="HOURS", help="Parts nobody went on with."
)
def sweep(config: Path | None, data_dir: Path | None, older_than: float) -> None:
    """Remove what dead uploads left behind. Running ones are not touched."""
    settings: Settings = load_settings(config, {"server.data_dir": data_dir}).settings
    try:
        store = open_store(settings)
        promised = OutboxFolder(settings.data_dir / "outbox").promised()
        if waiting := promised & {upload.staged for upload in store.uploads() if not upload.held}:
            click.echo(
                f"gateway: {len(waiting)} uploads are complete and wait for the store: nothing was swept. Start the"
                " gateway, which delivers them, and sweep then",
                err=True,
            )
            sys.exit(1)
        count = store.sweep(parts_older_than_s=older_than * 3600)
        for route, files in open_route_stores(settings, store):
            count += files.sweep(older_than_s=route.keep_hours * 3600)
    except GatewayError as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(1)
    click.echo(f"removed what {count} uploads left behind")


def waiting_commits(settings: Settings) -> int:
    """How many commits wait for the core."""
    try:
        return len(OutboxFolder(settings.data_dir / "outbox").names())
    except FileNotFoundError:
        return 0


def find_uploads(settings: Settings) -> tuple[list[tuple[str, StagedUpload]], list[str]]:
    """Each upload with its route ("" = the registry), oldest first; and which stores could not be asked, and why."""
    images = open_store(settings)
    places: dict[tuple[Path | None, str], list[str]] = {}
    stores: dict[tuple[Path | None, str], RouteFiles] = {}
    for route, files in open_route_stores(settings, images):
        # Routes may share a folder. Its files do not tell by which they came.
        stores.setdefault((route.store, route.store_s3), files)
        places.setdefault((route.store, route.store_s3), []).append(route.place)
    sources = [("", images.uploads)]
    sources += [(", ".join(places[where]), files.incoming) for where, files in stores.items()]
    found: list[tuple[str, StagedUpload]] = []
    problems: list[str] = []
    for name, uploads_of in sources:
        try:
            found += [(name, upload) for upload in uploads_of()]
        except GatewayError as exc:
            problems.append(f"{name or 'the registry'}: {exc}")
    return sorted(found, key=lambda pair: pair[1].modified), problems


def as_object(route: str, upload: StagedUpload) -> dict[str, object]:
    """One upload for programs."""
    return {
        "id": upload.staged,
        "size": upload.size,
        "modified": upload.modified,
        "active": upload.held,
        "route": route,
    }


def describe(route: str, upload: StagedUpload, now: float) -> str:
    """One upload for people."""
    state = "running" if upload.held else "left over"
    line = f"{upload.staged}  {upload.size / 1e6:12.1f} MB  {now - upload.modified:8.0f} s ago  {state}"
    return f"{line}  {route}" if route else line
