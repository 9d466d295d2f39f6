"""Owns ``gateway cert``: look at the certificate, order one, take one over, hand one out."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gateway.acme.hook import HOOK_S, run_hook
from gateway.acme.live import install
from gateway.acme.plan import DIRECTORIES, AcmePlan, plan_of
from gateway.acme.state import AcmeState
from gateway.acme.status import certificate_status
from gateway.acme.transfer import STYLES, USUAL_STYLES, find_pair, write_pair
from gateway.cli import USAGE_EXIT, complain, load_settings, settings_options
from gateway.errors import SettingsError
from gateway.net.certificate import CertificateRefused, Pair, read_pair
from gateway.net.files import locked, make_folder
from gateway.net.tls import name_is_covered, origin_of
from gateway.settings import Settings


@click.group()
def cert() -> None:
    """The certificate of the front door."""


@cert.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """Expiry, names, issuer, chain, next renewal, last error. Exit 1 when it needs looking after."""
    told = certificate_status(_settings(config, data_dir))
    click.echo(json.dumps(told.to_dict(), indent=2) if as_json else "\n".join(told.lines()))
    sys.exit(0 if told.is_well else 1)


def hook_option(when: str) -> Callable[..., Any]:
    """``--deploy-hook``; ``when`` ends its sentence."""
    told = f"Run by /bin/sh, at most {HOOK_S:.0f} s, {when}; exit 1 if it fails."
    return click.option("--deploy-hook", metavar="CMD", help=told)


def order_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What ``issue`` and ``renew`` share."""
    command = hook_option("instead of tls.deploy_hook, after a new certificate")(command)
    command = click.option(
        "--force", is_flag=True, help="Even if it is not time, or an error asks for a pause."
    )(command)
    return settings_options(command)


@cert.command()
@order_options
def issue(config: Path | None, data_dir: Path | None, *, force: bool, deploy_hook: str | None) -> None:
    """Order the certificate of the settings, if there is none that serves. The gateway must be running."""
    _take_turn(_plan(_settings(config, data_dir), deploy_hook), force=force, must_have=True)


@cert.command()
@order_options
def renew(config: Path | None, data_dir: Path | None, *, force: bool, deploy_hook: str | None) -> None:
    """Renew if it is time. The running gateway does this by itself."""
    _take_turn(_plan(_settings(config, data_dir), deploy_hook), force=force, must_have=False)


@cert.command("import")
@settings_options
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", default="", help="Which of several, as certbot calls it.")
@hook_option("once it is taken over")
def import_(
    config: Path | None, data_dir: Path | None, folder: Path, name: str, deploy_hook: str | None
) -> None:
    """Take over the pair in FOLDER, for example /etc/letsencrypt/live/NAME; tls.mode = 'acme' renews it."""
    settings = _settings(config, data_dir)
    try:
        pair = find_pair(folder, name)
    except CertificateRefused as exc:
        raise click.ClickException(exc.sentence) from exc
    plan = _plan_for_import(settings, pair)
    try:
        make_folder(plan.folder)
        with locked(plan.folder):
            install(plan, pair, AcmeState.load(plan.folder), datetime.now(UTC))
    except OSError as exc:
        raise click.ClickException(f"{plan.folder} cannot be written: {exc.strerror}") from exc
    click.echo(f"imported {', '.join(pair.names)}, until {pair.leaf.not_valid_after_utc:%Y-%m-%d}")
    missing = [wanted for wanted in plan.names if not name_is_covered(wanted, pair.names)]
    if missing:
        click.echo(
            f"it does not cover {', '.join(missing)}: with tls.mode = 'acme' another is ordered at once"
        )
    if settings.tls.mode != "acme":
        click.echo(f"tls.mode is '{settings.tls.mode}': set it to 'acme' to use and renew this certificate")
    _run_hook(deploy_hook, pair, CERTIFICATE_FILE=plan.live)


@cert.command()
@settings_options
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--style",
    type=click.Choice(sorted(STYLES)),
    help="One pair only. minio: public.crt, private.key. nginx: chained.pem, domain.key."
    " certbot: fullchain.pem, privkey.pem.  [default: the pairs of minio and of nginx]",
)
@hook_option("once the files are written")
def export(
    config: Path | None, data_dir: Path | None, folder: Path, style: str | None, deploy_hook: str | None
) -> None:
    """Write the certificate in use and its key into FOLDER, under the names that MinIO and nginx look for."""
    settings = _settings(config, data_dir)
    if settings.tls.mode == "off":
        raise click.ClickException("TLS is off: there is no certificate to export")
    files = origin_of(settings).files
    try:
        pair = read_pair(files[0], files[0] if settings.tls.mode == "acme" else files[1])
        written = [
            path for one in ([style] if style else USUAL_STYLES) for path in write_pair(pair, folder, one)
        ]
    except CertificateRefused as exc:
        raise click.ClickException(exc.sentence) from exc
    except OSError as exc:
        raise click.ClickException(f"{folder} cannot be written: {exc.strerror}") from exc
    click.echo("\n".join(str(path) for path in written))
    _run_hook(deploy_hook, pair, CERTIFICATE_FOLDER=folder)


def _run_hook(command: str | None, pair: Pair, **where: Path) -> None:
    told = {name: str(path.absolute()) for name, path in where.items()}
    trouble = run_hook(command or "", {**told, "CERTIFICATE_NAMES": " ".join(pair.names)})
    if trouble:
        raise click.ClickException(trouble)


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    settings: Settings = load_settings(config, {"server.data_dir": data_dir}).settings
    return settings


def _plan(settings: Settings, deploy_hook: str | None) -> AcmePlan:
    if settings.tls.mode != "acme":
        raise click.ClickException(
            f"tls.mode is '{settings.tls.mode}': certificates are ordered only with tls.mode = 'acme'"
        )
    try:
        plan = plan_of(settings)
    except SettingsError as exc:
        complain(exc)
        sys.exit(USAGE_EXIT)
    return plan if deploy_hook is None else replace(plan, deploy_hook=deploy_hook)


def _plan_for_import(settings: Settings, pair: Pair) -> AcmePlan:
    try:
        return plan_of(settings)
    except SettingsError:  # the names are not set up for ACME yet; those of the pair do for now
        return AcmePlan(data_dir=settings.data_dir, names=pair.names, directory=DIRECTORIES["letsencrypt"])


def _take_turn(plan: AcmePlan, *, force: bool, must_have: bool) -> None:
    from gateway.acme.turn import take_turn  # noqa: PLC0415 - the ACME library takes a second to load

    try:
        turn = take_turn(plan, force=force)
    except OSError as exc:
        raise click.ClickException(f"{plan.folder} cannot be written: {exc.strerror}") from exc
    click.echo(turn.sentence, err=turn.outcome in {"failed", "busy"})
    paused = must_have and turn.outcome == "waiting" and AcmeState.load(plan.folder).retry_at is not None
    sys.exit(1 if turn.outcome in {"failed", "busy"} or turn.hook_failed or paused else 0)
