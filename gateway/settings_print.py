"""Owns how settings are shown: the effective ones with their origin, and the template that explains all of them."""

import json
import textwrap
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import Settings
from gateway.settings_routes import Route
from gateway.settings_source import LoadedSettings, shown

_WIDTH: Final = 100
_GROUPED_FROM: Final = 100_000
EXAMPLE: Final = "/etc/sregistry-gateway/"
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
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    match value:
        case bool():
            return str(value).lower()
        case int():
            return f"{value:_}" if value >= _GROUPED_FROM else str(value)
        case float():
            return repr(value)
        case _:
            return json.dumps("" if value is None else str(value), ensure_ascii=False)


def template() -> str:
    """The content of conf/gateway.toml."""
    return "\n".join((_HEADER, *_section_lines(Settings, Settings(), ""), *_route_lines()))


def _section_lines(model: type[BaseModel], defaults: BaseModel, prefix: str) -> Iterator[str]:
    nested: list[tuple[str, BaseModel]] = []
    if prefix:
        yield f"[{prefix}]"
        yield from _comment(model.__doc__ or "")
        yield ""
    for name, field in model.model_fields.items():
        value = getattr(defaults, name)
        if isinstance(value, BaseModel):
            nested.append((name, value))
        elif name != "routes" and not isinstance(value, SecretStr):
            yield from _setting_lines(name, field, value)
    for name, section in nested:
        yield from _section_lines(type(section), section, f"{prefix}.{name}" if prefix else name)


def _setting_lines(name: str, field: FieldInfo, value: object) -> Iterator[str]:
    yield from _comment(field.description or "")
    # TOML has no word for "none": an example stands where there is no default.
    yield f"#{name} = {as_toml(value)}" if value is not None else f'#{name} = "{EXAMPLE}{name}"'
    yield ""


def _route_lines() -> Iterator[str]:
    yield from _comment(
        "For use in front of any other backend (docs/upload-routes.md): one such table for each route."
    )
    yield "#[[routes]]"
    yield ""
    for name, field in Route.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield from _setting_lines(
            name, field, oct(default)[2:].zfill(4) if name == "store_access" else default
        )


def _comment(text: str) -> Iterator[str]:
    first = text.strip().splitlines()[0] if text.strip() else ""
    for line in textwrap.wrap(first, _WIDTH):
        yield f"# {line}"
