"""Owns ``gateway maintenance on | off | status``."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from gateway.cli import load_settings, settings_options
from gateway.contract import parse_moment
from gateway.maintenance import MODES, MaintenanceState, MaintenanceSwitch, parse_networks


@click.group()
def maintenance() -> None:
    """Close and open the door. Acts on the running gateway at once, and survives restarts."""


@maintenance.command()
@settings_options
@click.option("--mode", type=click.Choice(MODES), default="full", show_default=True, help="What is closed.")
@click.option("--message", default="", metavar="TEXT", help="What users read.")
@click.option("--at", metavar="ISO8601", help="Begin then; until then pages announce it.")
@click.option(
    "--until", metavar="ISO8601", help="Expected end, e.g. 2026-12-01T14:00 (local time) or …T14:00Z."
)
@click.option(
    "--allow", multiple=True, metavar="ADDR", help="Address or network that passes; may be repeated."
)
def on(
    *,
    config: Path | None,
    data_dir: Path | None,
    mode: str,
    message: str,
    at: str | None,
    until: str | None,
    allow: tuple[str, ...],
) -> None:
    """Begin, or change what is said."""
    switch = _switch(config, data_dir)
    begin, end = _moment(at, "--at"), _moment(until, "--until")
    if begin and end and end <= begin:
        raise click.BadParameter("lies before --at", param_hint="--until")
    try:
        networks = parse_networks(allow)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--allow") from exc
    state = MaintenanceState(
        mode=next(known for known in MODES if known == mode),
        message=message,
        until=end,
        at=begin or 0.0,
        allow=networks,
        since=time.time(),
    )
    _write(lambda: switch.turn_on(state))
    click.echo(describe(state))


@maintenance.command()
@settings_options
def off(config: Path | None, data_dir: Path | None) -> None:
    """End it."""
    switch = _switch(config, data_dir)
    _write(switch.turn_off)
    click.echo("maintenance is off")


@maintenance.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """Tell whether it is on."""
    switch = _switch(config, data_dir)
    state, coming = switch.planned(), switch.coming()
    if coming == state:
        coming = None
    if as_json:
        value = as_value(state) | ({"then": as_value(coming)} if coming is not None else {})
        click.echo(json.dumps(value))
        return
    click.echo(describe(state))
    if coming is not None:
        click.echo(describe(coming))


def _moment(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    try:
        moment = parse_moment(text)
    except ValueError as exc:
        raise click.BadParameter("not ISO 8601, for example 2026-12-01T14:00", param_hint=option) from exc
    if moment <= time.time():
        raise click.BadParameter("lies in the past", param_hint=option)
    return moment


def _write(act: Callable[[], None]) -> None:
    try:
        act()
    except OSError as exc:
        raise click.ClickException(f"cannot write the switch: {exc}") from exc


def _switch(config: Path | None, data_dir: Path | None) -> MaintenanceSwitch:
    loaded = load_settings(config, {"server.data_dir": data_dir})
    return MaintenanceSwitch(loaded.settings.data_dir)


def as_value(state: MaintenanceState | None) -> dict[str, object]:
    """The state for programs."""
    if state is None:
        return {"on": False}
    return {
        "on": state.at <= time.time(),
        "at": _iso(state.at) if state.at else None,
        "mode": state.mode,
        "message": state.message,
        "until": None if state.until is None else _iso(state.until),
        "since": _iso(state.since) if state.since else None,
        "allow": [str(network) for network in state.allow],
    }


def describe(state: MaintenanceState | None) -> str:
    """The state for people."""
    if state is None:
        return "maintenance is off"
    is_on = state.at <= time.time()
    parts = [f"maintenance is on: {state.mode}" if is_on else f"planned: {state.mode}, from {_iso(state.at)}"]
    if state.until is not None:
        parts.append(f"until {_iso(state.until)}")
    if state.message:
        parts.append(f"message: {state.message}")
    if state.allow:
        parts.append("passes: " + ", ".join(str(network) for network in state.allow))
    return "\n  ".join(parts)


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
