"""Owns the ``registry`` command: exit 0 done, 1 failed, 2 wrong usage or settings."""

import os
from pathlib import Path

import click

from registry_core.commands.accounts import token, user
from registry_core.commands.collections import collection
from registry_core.commands.frame import load_settings, read_settings, settings_options, told_failures
from registry_core.commands.legacy import import_sregistry
from registry_core.commands.store import store
from registry_core.commands.upkeep import backup, fsck, gc, restore, usage
from registry_core.commands.webhooks import webhook


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sregistry-gateway")
def main() -> None:
    """The registry core: accounts, images, upkeep. Every command works while the server runs."""
    os.umask(0o077)  # whatever we make is ours alone


main.add_command(user)
main.add_command(token)
main.add_command(collection)
main.add_command(webhook)
main.add_command(store)
for _upkeep in (gc, fsck, backup, restore, usage, import_sregistry):
    main.add_command(_upkeep)


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
