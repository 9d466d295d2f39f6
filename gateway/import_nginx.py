"""Owns ``gateway import-nginx FILE``: an nginx configuration in, gateway.toml out, and a list of what was lost."""

import glob
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from gateway.nginx_config import NginxSyntaxError, parse_config
from gateway.nginx_result import Imported
from gateway.nginx_routes import translate


@click.command("import-nginx")
@click.argument("file", type=click.Path(path_type=Path))
def import_nginx(file: Path) -> None:
    """Print the gateway.toml that does what an nginx configuration with the upload module does.

    FILE is nginx.conf, or a file of servers. What has no counterpart is named on standard error and in comments;
    the exit status is then 1, also if a file that it includes cannot be read. A file with an error in it: 2.
    """
    try:
        made = read_nginx(file)
    except NginxSyntaxError as exc:
        click.echo(f"gateway: {exc}", err=True)
        sys.exit(2)
    click.echo(as_toml(made, source=str(file)), nl=False)
    for note in made.notes:
        click.echo(f"not translated: {note}", err=True)
    sys.exit(1 if made.notes else 0)


def read_nginx(file: Path) -> Imported:
    """What an nginx configuration means here; includes are looked for beside it, as nginx does.

    Raises: NginxSyntaxError, also if ``file`` itself cannot be read.
    """
    try:
        text = file.read_text("utf-8", "surrogateescape")
    except OSError as exc:
        raise NginxSyntaxError(f"{file}: cannot be read: {exc.strerror}") from exc
    return translate(parse_config(text, file=str(file), read=lambda pattern: _included(file.parent, pattern)))


def _included(folder: Path, pattern: str) -> Iterator[tuple[str, str | OSError]]:
    path = folder / pattern
    names = sorted(glob.glob(str(path))) if glob.has_magic(pattern) else [str(path)]  # noqa: PTH207 - absolute too
    for name in names:
        try:
            yield name, Path(name).read_text("utf-8", "surrogateescape")
        except OSError as exc:
            yield name, exc


def as_toml(made: Imported, *, source: str) -> str:
    """The settings file."""
    return "\n".join(_lines(made, source)) + "\n"


def _lines(made: Imported, source: str) -> Iterator[str]:
    yield f"# Made by 'gateway import-nginx' from {_printable(source)}."
    if made.notes:
        yield "#"
        yield "# NOT TRANSLATED, look at each:"
        yield from (f"#  - {_printable(note)}" for note in made.notes)
    for name, table in made.settings.items():
        if table:
            yield from ("", f"[{name}]")
            yield from (f"{key} = {_value(value)}" for key, value in table.items())
    for route in made.routes:
        yield from _route_lines(route)


def _route_lines(route: dict[str, Any]) -> Iterator[str]:
    yield from ("", "[[routes]]")
    yield from (f"{key} = {_value(value)}" for key, value in route.items() if not isinstance(value, dict))
    for key, value in route.items():
        if isinstance(value, dict):
            yield f"[routes.{key}]"
            yield from (f"{_value(name)} = {_value(text)}" for name, text in value.items())


def _value(value: object) -> str:
    """A TOML value: its strings, numbers and lists are written as JSON's are, but for DEL."""
    if isinstance(value, str):
        readable = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return json.dumps(readable, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Iterable):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
