"""Owns how settings are shown: the effective ones with their origin, and the template that explains all of them."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import Settings
from gateway.settings_source import LoadedSettings, shown

_WIDTH: Final = 100
_HEADER: Final = """\
# Settings of sregistry-gateway. Every setting there is, with its default, commented out.
#
# Copy this file to /etc/sregistry-gateway/gateway.toml and change what you need.
# Flags win over the environment (GATEWAY_SECTION__NAME), the environment over this file, this file over the defaults.
# Check what you wrote with 'gateway check'; 'gateway settings' shows what is in effect and where it came from.
# Sizes are in bytes, times in seconds. Secrets are never written here: use the environment or a *_file setting.
"""


def effective(loaded: LoadedSettings) -> Iterator[tuple[str, object, str]]:
    """Dotted name, value (secrets masked) and origin of every setting."""
    for name, value in _values(loaded.settings, ""):
        yield name, shown(value), loaded.origins.get(name, "default")


def _values(model: BaseModel, prefix: str) -> Iterator[tuple[str, object]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_toml(value: object) -> str:
    """A value as TOML writes it; what TOML has no word for (null) as an empty string."""
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}" if value >= 10**5 else str(value)
        case float():
            return repr(value)
        case list() | tuple():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def template() -> str:
    """The content of conf/gateway.toml."""
    return "\n".join((_HEADER, *_section_lines(Settings, Settings(), "")))


def _section_lines(model: type[BaseModel], defaults: BaseModel, prefix: str) -> Iterator[str]:
    plain: list[tuple[str, FieldInfo, Any]] = []
    nested: list[tuple[str, BaseModel]] = []
    for name, field in model.model_fields.items():
        value = getattr(defaults, name)
        if isinstance(value, BaseModel):
            nested.append((name, value))
        elif not isinstance(value, SecretStr):
            plain.append((name, field, value))
    if prefix:
        yield f"[{prefix}]"
        yield from _comment(model.__doc__ or "")
        yield ""
    for name, field, value in plain:
        yield from _comment(field.description or "")
        yield f"#{name} = {as_toml(value)}" if value is not None else f"#{name} ="
        yield ""
    for name, section in nested:
        yield from _section_lines(type(section), section, f"{prefix}.{name}" if prefix else name)


def _comment(text: str) -> Iterator[str]:
    first = text.strip().splitlines()[0] if text.strip() else ""
    for line in textwrap.wrap(first, _WIDTH):
        yield f"# {line}"
