"""Owns ``gateway trace``: words on the command line to one run of it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli import USAGE_EXIT, load_settings, settings_options

_SLOWEST: Final = 20
_ALL: Final = "all"


@click.command()
@settings_options
@click.option("--path", "paths", multiple=True, metavar="GLOB", help="Only these paths, as '/v1/*'.")
@click.option("--status", "statuses", multiple=True, metavar="503|4xx", help="Only these, of any hop.")
@click.option("--client", "clients", multiple=True, metavar="ADDR|NET", help="Only these clients.")
@click.option("--method", "methods", multiple=True, metavar="METHOD", help="Only these methods.")
@click.option(
    "--slower-than",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Only what took longer.",
)
@click.option("--operations", is_flag=True, help="Also /-/: probes of health, readiness, metrics.")
@click.option("--slowest", is_flag=True, help=f"At the end, the {_SLOWEST} slowest of what was seen.")
@click.option("-v", "--verbose", is_flag=True, help="Heads too, secrets masked.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a request.")
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0), metavar="SECONDS", help="End by itself after this."
)
@click.option(
    "--inspect",
    type=click.Choice(["core", "s3", _ALL]),
    help="Lead this hop through mitmproxy for as long as this runs.",
)
@click.option(
    "--listen", default="", metavar="ADDR:PORT", help="With --inspect s3: where, for direct clients too."
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --inspect: keep the heads in a file that mitmweb and mitmdump read.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Show a saved file; no gateway is needed.",
)
def trace(config: Path | None, data_dir: Path | None, replay: Path | None, **options: Any) -> None:
    """Watch requests and answers, hop by hop, while they happen. Bodies are never shown.

    Ctrl-C ends it, and the gateway is as before.
    """
    from gateway.trace.session import NoSuchHop, TraceFailed  # noqa: PLC0415
    from gateway.trace.session import trace as run  # noqa: PLC0415
    from gateway.trace.stories import BadFilter  # noqa: PLC0415

    try:
        wishes = _wishes(options)
        if replay is not None:
            _replay(replay, wishes)
            return
        # Nothing else of the settings: they may be in the environment of the gateway, which is asked.
        folder = load_settings(config, {"server.data_dir": data_dir}).settings.data_dir / "run"
        asyncio.run(run(folder, wishes, _say, _note))
    except (BadFilter, NoSuchHop) as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(USAGE_EXIT)
    except (TraceFailed, OSError) as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(1)


def _wishes(options: dict[str, Any]) -> Any:
    from gateway.trace.session import Wishes  # noqa: PLC0415
    from gateway.trace.stories import Filter  # noqa: PLC0415

    inspect = options["inspect"]
    if (options["save"] or options["listen"]) and not inspect:
        raise click.UsageError("--save and --listen belong to --inspect")
    if options["listen"] and inspect == "core":
        raise click.UsageError("--listen belongs to --inspect s3")
    return Wishes(
        wanted=Filter(
            paths=options["paths"],
            statuses=options["statuses"],
            clients=options["clients"],
            methods=options["methods"],
            slower_than_s=options["slower_than"],
            with_operations=options["operations"],
        ),
        verbose=options["verbose"],
        as_json=options["as_json"],
        slowest=_SLOWEST if options["slowest"] else 0,
        seconds=options["seconds"],
        inspect=("core", "s3") if inspect == _ALL else (inspect,) if inspect else (),
        all_there=inspect == _ALL,
        listen=options["listen"],
        save=options["save"],
    )


def _replay(file: Path, wishes: Any) -> None:
    from gateway.trace.recorder import replay  # noqa: PLC0415 - loads mitmproxy
    from gateway.trace.session import Show  # noqa: PLC0415

    show = Show(wishes, _say, _note)
    try:
        for event in replay(file):
            # Each exchange is a story of its own: the client's side is not in the file.
            show.take_inspected({**event, "id": ""})
            show.flush()
            if show.is_cut:
                break
    except ValueError as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(1)
    finally:
        show.end()


def _say(line: str) -> None:
    """Raises: BrokenPipeError."""
    try:
        click.echo(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would be a complaint at the end: `trace | head` is no mistake.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _note(line: str) -> None:
    click.echo(f"gateway trace: {line}", err=True)
