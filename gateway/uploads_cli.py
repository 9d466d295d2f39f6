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
from gateway.upload.route_stores import open_route_stores


@click.group()
def uploads() -> None:
    """Uploads in progress."""


@uploads.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def ls(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """List uploads in progress, and commits that wait for the core."""
    settings: Settings = load_settings(config, {"server.data_dir": data_dir}).settings
    try:
        staged = sorted(open_store(settings).uploads(), key=lambda upload: upload.modified)
    except GatewayError as exc:
        raise click.ClickException(str(exc)) from exc
    waiting = waiting_commits(settings)
    if as_json:
        listed = [{"id": u.staged, "size": u.size, "modified": u.modified, "active": u.held} for u in staged]
        click.echo(json.dumps({"uploads": listed, "waiting_commits": waiting}))
        return
    for upload in staged:
        click.echo(describe(upload, time.time()))
    click.echo(f"{len(staged)} uploads in progress, {waiting} commits wait for the core")


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


def describe(upload: StagedUpload, now: float) -> str:
    """One upload for people."""
    state = "running" if upload.held else "left over"
    return f"{upload.staged}  {upload.size / 1e6:12.1f} MB  {now - upload.modified:8.0f} s ago  {state}"
