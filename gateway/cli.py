"""Owns the ``gateway`` command: words on the command line to calls. Heavy modules load only when they are needed."""

import importlib
import importlib.util
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from gateway.early import note_early
from gateway.errors import SettingsError
from gateway.init_process import stay_as_first
from gateway.net.openssl_policy import apply_openssl_policy

USAGE_EXIT: Final = 2

# Commands that live with the part they belong to: name → module:attribute.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "maintenance": "gateway.maintenance_cli:maintenance",
    "uploads": "gateway.uploads_cli:uploads",
    "core": "gateway.core_cli:core",
    "upgrade": "gateway.core_cli:upgrade",
    "cert": "gateway.acme.commands:cert",
    "trace": "gateway.trace.commands:trace",
    "import-nginx": "gateway.import_nginx:import_nginx",
}


# Settings that ``serve`` takes as flags; workers are started with the same.
_FLAGS: Final[Mapping[str, str]] = {
    "server.data_dir": "--data-dir",
    "server.http": "--http",
    "server.https": "--https",
    "tls.mode": "--tls",
    "server.workers": "--workers",
}


class LazyGroup(click.Group):
    """A group whose further commands are imported when they are called, so that every command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, also of those that are not imported yet."""
        there = [name for name, where in _ELSEWHERE.items() if _exists(where.partition(":")[0])]
        return sorted((*super().list_commands(ctx), *there))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command by its name."""
        where = _ELSEWHERE.get(cmd_name)
        if where is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = where.partition(":")
        if not _exists(module):
            return None
        command = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="sregistry-gateway", prog_name="gateway")
def main() -> None:
    """Front door, upload accelerator and small registry for Singularity/Apptainer images."""


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--config`` and ``--data-dir``, as every command takes them."""
    command = click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of everything that is kept.",
    )(command)
    return click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML)."
    )(command)


def load_settings(config: Path | None, flags: Mapping[str, Any]) -> Any:
    """The settings, or exit 2 after every complaint has been printed."""
    from gateway.settings_source import load  # noqa: PLC0415 - pydantic takes 100 ms

    try:
        return load(file=config, flags=flags)
    except SettingsError as exc:
        complain(exc)
        sys.exit(USAGE_EXIT)


def complain(error: SettingsError) -> None:
    """Print every problem."""
    click.echo(f"gateway: {len(error.problems)} problem(s) in the settings:", err=True)
    for problem in error.problems:
        click.echo(f"  {problem.where}: {problem.what}", err=True)


@main.command()
@settings_options
@click.option("--http", metavar="ADDR:PORT", help="Plain listener.")
@click.option("--https", metavar="ADDR:PORT", help="TLS listener.")
@click.option(
    "--tls", type=click.Choice(["dev", "files", "acme", "off"]), help="Where the certificate comes from."
)
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Gateway processes.")
def serve(
    *,
    config: Path | None,
    data_dir: Path | None,
    http: str | None,
    https: str | None,
    tls: str | None,
    workers: int | None,
) -> None:
    """Run. SIGTERM drains and stops, SIGUSR2 upgrades, SIGHUP reloads settings and certificates."""
    note_early(signal.SIGHUP)
    note_early(signal.SIGUSR2)
    stay_as_first()
    apply_openssl_policy()  # before all that loads OpenSSL, which reads it once
    flags = {
        # Absolute: children may not share our idea of here.
        "server.data_dir": None if data_dir is None else data_dir.absolute(),
        "server.http": http,
        "server.https": https,
        "tls.mode": tls,
        "server.workers": workers,
    }
    loaded = load_settings(config, flags)
    from gateway import app  # noqa: PLC0415

    given = {name: value for name, value in flags.items() if value is not None}
    named = {"--config": loaded.file, **{_FLAGS[name]: value for name, value in given.items()}}
    arguments = [
        "serve",
        *(word for flag, value in named.items() if value is not None for word in (flag, str(value))),
    ]
    try:
        sys.exit(app.serve(loaded, app.CommandLine(flags=given, arguments=arguments)))
    except SettingsError as exc:
        complain(exc)
        sys.exit(USAGE_EXIT)


@main.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """Prove that settings, certificate, store, core and listeners can work; say what to do where they cannot."""
    from gateway.check import inspect, render  # noqa: PLC0415
    from gateway.findings import Level  # noqa: PLC0415
    from gateway.settings_source import load  # noqa: PLC0415

    try:
        loaded = load(file=config, flags={"server.data_dir": data_dir})
    except SettingsError as exc:
        complain(exc)
        sys.exit(USAGE_EXIT)
    findings = inspect(loaded)
    if as_json:
        click.echo(json.dumps([finding.as_json() for finding in findings], indent=1))
    else:
        click.echo(render(findings))
    sys.exit(1 if any(finding.level is Level.fail for finding in findings) else 0)


@main.command()
@settings_options
@click.option(
    "--template", "as_template", is_flag=True, help="Print a settings file with every setting explained."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def settings(config: Path | None, data_dir: Path | None, *, as_template: bool, as_json: bool) -> None:
    """Show the settings in effect, secrets masked, and where each came from."""
    from gateway.settings_print import as_toml, effective, template  # noqa: PLC0415

    if as_template:
        click.echo(template(), nl=False)
        return
    rows = list(effective(load_settings(config, {"server.data_dir": data_dir})))
    if as_json:
        click.echo(
            json.dumps({name: {"value": value, "origin": origin} for name, value, origin in rows}, indent=1)
        )
        return
    width = max(len(name) for name, _, _ in rows)
    for name, value, origin in rows:
        click.echo(f"{name:<{width}} = {as_toml(value)}  # {origin}")
