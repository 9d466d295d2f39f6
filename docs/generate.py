"""Owns the pages that are written from the code: settings, commands, errors. Run by `make docs`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import gateway.cli
import registry_core.cli
from gateway import errors
from gateway.settings import Settings
from gateway.settings_routes import Route
from gateway.settings_source import ALIASES, ENV_PREFIX, setting_names

HERE: Final = Path(__file__).parent
_NOTE: Final = "<!-- Written by `make docs` from the code. Do not edit. -->\n"


def pages() -> Mapping[str, str]:
    """The text of each page, by file name."""
    return {"settings.md": _settings(), "commands.md": _commands(), "errors.md": _errors()}


def _settings() -> str:
    lines = [
        _NOTE,
        "# Settings",
        "",
        "One TOML file (`--config FILE`, or `GATEWAY_CONFIG`, or `/etc/sregistry-gateway/gateway.toml`).",
        "Command-line flags win over the environment, the environment over the file, the file over the defaults.",
        f"In the environment a setting is called `{ENV_PREFIX}SECTION__NAME`. `gateway settings` shows what is in",
        "force and where each value came from; `gateway check` tries it out.",
        'A list in the environment has commas between its items, or is JSON: `["10.0.0.0/8", "fd00::/8"]`.',
    ]
    section = ""
    for name in setting_names():
        table, _, leaf = name.rpartition(".")
        if not table:
            continue
        if table != section:
            section = table
            lines += ["", f"## [{section}]", "", "| setting | default | meaning |", "|---|---|---|"]
        lines.append(_row(leaf, _declared(name)))
    lines += ["", "## [[routes]]", "", "One table for each route; see [upload routes](upload-routes.md).", ""]
    lines += ["| setting | default | meaning |", "|---|---|---|"]
    lines += [_row(name, field) for name, field in Route.model_fields.items()]
    lines += ["", "## Names of the old stack", "", "These environment variables keep working.", ""]
    lines += ["| variable | setting |", "|---|---|"]
    lines += [f"| `{alias}` | `{name}` |" for alias, name in ALIASES.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_shown(field.default)} | {_cell(field.description or '')} |"


def _declared(name: str) -> FieldInfo:
    model: type[BaseModel] = Settings
    *sections, leaf = name.split(".")
    for section in sections:
        annotation = model.model_fields[section].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    return model.model_fields[leaf]


def _shown(default: Any) -> str:
    if default is PydanticUndefined or default is None:
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default in ((), {}):
        return "empty"
    if isinstance(default, int | float):
        return f"`{default}`"
    text = str(default) if not isinstance(default, tuple) else ", ".join(map(str, default))
    return f"`{text}`" if text and set(text) != {"*"} else "empty"


def _commands() -> str:
    lines = [_NOTE, "# Commands", "", "Exit status: 0 fine, 1 failed, 2 wrong usage or wrong settings.", ""]
    for program, command in (("gateway", gateway.cli.main), ("registry", registry_core.cli.main)):
        assert isinstance(command, click.Command)
        # What a program's sub-commands inherit when they are called, and click remembers from then on.
        help_names = command.context_settings.get("help_option_names", ["--help"])
        for name, found in _walk(program, command):
            context = click.Context(
                found, info_name=name, max_content_width=100, help_option_names=help_names
            )
            lines += [f"## {name}", "", "```", found.get_help(context), "```", ""]
    return "\n".join(lines)


def _walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if command.hidden:
        return
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child_name in command.list_commands(context):  # some are loaded only now
            child = command.get_command(context, child_name)
            assert child is not None
            yield from _walk(f"{name} {child_name}", child)


def _errors() -> str:
    lines = [
        _NOTE,
        "# Errors",
        "",
        "Every error answer is JSON, or a small page for browsers, and repeats the request id that the log has:",
        '`{"error":{"code":STATUS,"message":"..."},"request_id":"..."}`. The log names the error by its code.',
        "",
        "| status | code | what the client reads |",
        "|---|---|---|",
    ]
    known = sorted(set(error_classes()), key=lambda cls: (cls.status, cls.code))
    lines += [f"| {cls.status} | `{cls.code}` | {_cell(cls.default_message)} |" for cls in known]
    return "\n".join(lines) + "\n"


def error_classes(
    root: type[errors.GatewayError] = errors.GatewayError,
) -> Iterator[type[errors.GatewayError]]:
    """Every way to fail that the gateway knows by name."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    for file_name, text in pages().items():
        (HERE / file_name).write_text(text)
