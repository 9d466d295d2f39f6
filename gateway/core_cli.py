"""Owns ``gateway core restart | upgrade`` and ``gateway upgrade``: what is done to a gateway that runs."""

import asyncio
import sys
from pathlib import Path

import click

from gateway.cli import load_settings, settings_options
from gateway.contract import load_secret
from gateway.control import ControlFailed, ask
from gateway.core_control import READY_S, wait_well
from gateway.core_health import probe_of
from gateway.core_upgrade import UpgradeFailed, control_socket, upgrade_core
from gateway.settings import Settings


@click.group()
def core() -> None:
    """The registry core of the running gateway."""


@core.command()
@settings_options
def restart(config: Path | None, data_dir: Path | None) -> None:
    """Start a new core, then end the old one. Nobody waits."""
    _have_done(_settings(config, data_dir), "core-restart")
    click.echo("the new core serves")


@core.command("upgrade")
@settings_options
def upgrade_command(config: Path | None, data_dir: Path | None) -> None:
    """After a new version was installed: copy the database, migrate it, start the new core; go back if that fails."""
    settings = _settings(config, data_dir)
    probe = probe_of(
        settings.core.url or f"unix:{settings.core_socket.absolute()}", load_secret(settings.secret_file)
    )
    try:
        upgrade_core(
            settings,
            config=config,
            say=click.echo,
            is_well=lambda: asyncio.run(wait_well(probe, within_s=READY_S)),
        )
    except UpgradeFailed as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(1)
    click.echo("the database is up to date and the core serves")


@click.command()
@settings_options
def upgrade(config: Path | None, data_dir: Path | None) -> None:
    """Hand the ports over to a new process (new version, new settings) without a gap; the old one drains."""
    _have_done(_settings(config, data_dir), "upgrade")
    click.echo("the new process serves; the old one finishes what it has begun")


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    settings: Settings = load_settings(config, {"server.data_dir": data_dir}).settings
    return settings


def _have_done(settings: Settings, command: str) -> None:
    try:
        for text in ask(control_socket(settings), command):
            click.echo(text)
    except ControlFailed as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(1)
