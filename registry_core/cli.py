"""Owns the ``registry`` command: exit 0 done, 1 failed, 2 wrong usage or settings."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from registry_core.commands.frame import load_settings, read_settings, settings_options, told_failures

# Where each command is, so that one need not load what only the others need.
_COMMANDS: Final[Mapping[str, str]] = {
    "user": "accounts:user",
    "token": "accounts:token",
    "collection": "collections:collection",
    "webhook": "webhooks:webhook",
    "store": "store:store",
    "gc": "upkeep:gc",
    "fsck": "upkeep:fsck",
    "backup": "upkeep:backup",
    "restore": "upkeep:restore",
    "usage": "upkeep:usage",
    "import-sregistry": "legacy:import_sregistry",
}


class Commands(click.Group):
    """A group that loads a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"registry_core.commands.{module}"), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sregistry-gateway")
def main() -> None:
    """The registry core: accounts, images, upkeep. Every command works while the server runs."""
    os.umask(0o077)  # whatever we make is ours alone


@main.command()
@click.option("--listen", metavar="HOST:PORT", help="Listen here instead of on the unix socket.")
@settings_options
def serve(*, listen: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Run the core. The gateway starts it by itself unless core.url is set."""
    from registry_core.registry import open_registry  # noqa: PLC0415 – only a server needs all of it
    from registry_core.server import Hangup, bind_tcp, bind_unix, configure_logging  # noqa: PLC0415
    from registry_core.server import serve as run  # noqa: PLC0415

    hangup = Hangup(lambda: read_settings(config, data_dir))
    settings = load_settings(config, data_dir)
    configure_logging(level=settings.log.level, form=settings.log.format)
    with told_failures():
        registry = open_registry(settings)
        hangup.obey(registry)
        listener = bind_tcp(listen) if listen else bind_unix(settings.core_socket)
        run(registry, listener)


@main.group()
def db() -> None:
    """The database."""


@db.command()
@settings_options
def upgrade(*, config: Path | None, data_dir: Path | None) -> None:
    """Bring the database to the current schema. Every other command does it too."""
    from registry_core.repo.database import Database  # noqa: PLC0415
    from registry_core.repo.migrate import HEAD, ensure_current  # noqa: PLC0415

    settings = load_settings(config, data_dir)
    with told_failures():
        database = Database(settings.database_url)
        changed = ensure_current(database)
        database.close()
    click.echo(f"The database is at version {HEAD}{'' if changed else ' already'}.", err=True)
