"""Owns what all commands share: their options, how they fail, and how they get at the registry."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final

import click

from gateway.errors import GatewayError, SettingsError
from gateway.settings import Settings
from gateway.settings_source import load
from registry_core.errors import DatabaseTrouble
from registry_core.policy import Actor, Scope
from registry_core.registry import Registry, open_registry

FAILED: Final = 1
WRONG_USAGE: Final = 2
# Who did it, in the audit log, when an administrator typed a command on the machine.
COMMAND_LINE: Final = "(command line)"
# Whoever can run commands on the machine may do everything.
MACHINE: Final = Actor(user_id=-1, name=COMMAND_LINE, admin=True, scope=Scope.ADMIN)


def read_settings(config: Path | None, data_dir: Path | None) -> Settings:
    """The settings of a command. Raises: SettingsError."""
    return load(file=config, flags={"server.data_dir": str(data_dir) if data_dir else None}).settings


def load_settings(config: Path | None, data_dir: Path | None) -> Settings:
    """The settings, or the end with every problem named."""
    try:
        return read_settings(config, data_dir)
    except SettingsError as exc:
        for problem in exc.problems:
            click.echo(f"registry: {problem.where}: {problem.what}", err=True)
        sys.exit(WRONG_USAGE)


def settings_options[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """``--config`` and ``--data-dir``."""
    path = click.Path(path_type=Path)
    command = click.option("--config", type=path, help="Settings file (TOML).")(command)
    return click.option("--data-dir", type=path, help="Folder of everything that is kept.")(command)


@contextlib.contextmanager
def told_failures() -> Iterator[None]:
    """Failures become one sentence on standard error and exit code 1."""
    try:
        yield
    except GatewayError as exc:
        click.echo(f"registry: {exc.message}{f' [{exc.detail}]' if exc.detail else ''}", err=True)
        sys.exit(FAILED)
    except (DatabaseTrouble, OSError) as exc:
        click.echo(f"registry: {exc}", err=True)
        sys.exit(FAILED)


@contextlib.contextmanager
def opened(config: Path | None, data_dir: Path | None) -> Iterator[Registry]:
    """The registry for one command, its database migrated if need be."""
    settings = load_settings(config, data_dir)
    with told_failures():
        registry = open_registry(settings)
        try:
            yield registry
        finally:
            registry.database.close()


def with_registry[**P](
    command: Callable[Concatenate[Registry, P], None],
) -> Callable[..., None]:
    """A command whose first argument is the registry."""

    @settings_options
    @functools.wraps(command)
    def run(*, config: Path | None, data_dir: Path | None, **options: Any) -> None:
        with opened(config, data_dir) as registry:
            command(registry, **options)  # type: ignore[call-arg] # click passes what the options declare

    return run


def require_same_store(settings: Settings) -> None:
    """End, if the gateway that runs on this data folder keeps its images elsewhere than these settings say."""
    from gateway.store.running import other_store  # noqa: PLC0415 – commands about accounts need no store

    if problem := other_store(settings):
        click.echo(
            f"registry: {problem}. Nothing was done; run this with the gateway's file (--config) and its environment.",
            err=True,
        )
        sys.exit(FAILED)


def read_password(*, from_stdin: bool) -> str:
    """A password, typed twice or on the first line of standard input."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be."""
    lines = [headings, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
