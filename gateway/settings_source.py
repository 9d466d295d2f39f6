"""Owns where settings come from: flags > environment > file > defaults, and every complaint about them."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from gateway.errors import Problem, SettingsError
from gateway.mask import mask_password
from gateway.settings import Settings
from gateway.settings_routes import Route

ENV_PREFIX: Final = "GATEWAY_"
DEFAULT_FILE: Final = Path("/etc/sregistry-gateway/gateway.toml")

# The old stack's names (.minio-env, shub/settings), so that its files can be reused as they are.
ALIASES: Final = {
    "MINIO_ACCESS_KEY": "storage.s3.access_key",
    "MINIO_ROOT_USER": "storage.s3.access_key",
    "MINIO_SECRET_KEY": "storage.s3.secret_key",
    "MINIO_ROOT_PASSWORD": "storage.s3.secret_key",
    "MINIO_ACCESS_KEY_OLD": "storage.s3.previous_access_key",
    "MINIO_SECRET_KEY_OLD": "storage.s3.previous_secret_key",
    "MINIO_SERVER": "storage.s3.endpoint",
    "MINIO_EXTERNAL_SERVER": "storage.s3.external_endpoint",
    "MINIO_BUCKET": "storage.s3.bucket",
    "MINIO_SSL": "storage.s3.ssl",
    "MINIO_SIGNED_URL_EXPIRE_MINUTES": "storage.s3.signed_url_expire_minutes",
    "MINIO_REGION": "storage.s3.region",
    "MINIO_MULTIPART_UPLOAD": "storage.s3.multipart_upload",
    "DISABLE_MINIO_CLEANUP": "storage.cleanup",
}
# Of a maintenance page of one's own, the first that is there.
PAGE_NAMES: Final = ("503.html", "index.html")
_NEGATED_ALIAS: Final = "DISABLE_MINIO_CLEANUP"
_SECRETS: Final = frozenset(
    f"storage.s3.{name}"
    for name in ("access_key", "secret_key", "previous_access_key", "previous_secret_key")
)
# How a JSON list of texts or tables begins. An address of IPv6 begins with a bracket, too.
_LIST_BEGINS: Final = re.compile(r'\s*\[\s*["{\]]')
# Variables with our prefix that are not settings.
_NOT_SETTINGS: Final = frozenset({"GATEWAY_CONFIG"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """``origins`` tells for each dotted name that was set where it came from."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


def load(
    *,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read the settings once. ``flags`` maps dotted names to values; None values count as not given.

    Raises: SettingsError with every problem at once.
    """
    env = os.environ if environ is None else environ
    path = file or _default_file(env)
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        for name, value in _from_file(path, problems):
            values[name], origins[name] = value, str(path)
    for name, value, origin in _from_environment(env, problems):
        values[name], origins[name] = value, f"environment {origin}"
    for name, value in (flags or {}).items():
        if value is not None:
            values[name], origins[name] = value, "command line"
    if path is not None and "maintenance.page" not in values and (page := _page_beside(path)) is not None:
        values["maintenance.page"], origins["maintenance.page"] = page, f"found beside {path}"
    _read_secret_files(values, origins, problems)
    settings = _validate(values, origins, problems)
    if settings is None or problems:
        raise SettingsError(tuple(problems))
    return LoadedSettings(settings=settings, origins=origins, file=path)


def setting_names() -> Iterator[str]:
    """The dotted name of every setting there is."""
    return _names_of(Settings, "")


def _names_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            yield from _names_of(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _section(annotation: object) -> type[BaseModel] | None:
    for candidate in (
        (annotation,) if get_origin(annotation) is tuple else (annotation, *get_args(annotation))
    ):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _is_list(name: str) -> bool:
    model: type[BaseModel] = Settings
    *sections, leaf = name.split(".")
    for section in sections:
        model = _section(model.model_fields[section].annotation) or model
    return get_origin(model.model_fields[leaf].annotation) is tuple


def _default_file(env: Mapping[str, str]) -> Path | None:
    if env.get("GATEWAY_CONFIG"):
        return Path(env["GATEWAY_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _page_beside(file: Path) -> Path | None:
    """The folder ``maintenance`` next to the file of the settings, if it has a page: then it is meant."""
    folder = file.parent / "maintenance"
    return folder if any((folder / name).is_file() for name in PAGE_NAMES) else None


def _from_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as exc:
        problems.append(Problem(where=str(path), what=f"cannot be read: {exc.strerror}"))
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        problems.append(Problem(where=str(path), what=f"is not TOML: {exc}"))
        return
    known = set(setting_names())
    for name, value in _flatten(table, "", known):
        if name == "routes":
            problems += _unknown_in_routes(value)
        if name in _SECRETS:
            problems.append(
                Problem(where=name, what=f"is a secret: set it by environment, or use {name}_file")
            )
        elif name not in known:
            problems.append(Problem(where=name, what=_unknown(name, known)))
        else:
            yield name, value


def _unknown_in_routes(tables: object) -> list[Problem]:
    """Misspelt names within ``[[routes]]``, which pydantic would only call extra."""
    known = set(Route.model_fields)
    return [
        Problem(where=f"routes.{index}.{name}", what=_unknown(name, known))
        for index, table in enumerate(tables if isinstance(tables, list) else [])
        for name in (table if isinstance(table, dict) else ())
        if name not in known
    ]


def _flatten(table: Mapping[str, Any], prefix: str, known: set[str]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        is_section = any(other.startswith(f"{name}.") for other in known)
        if isinstance(value, dict) and (is_section or name not in known):
            yield from _flatten(value, f"{name}.", known)
        else:
            yield name, value


def _from_environment(env: Mapping[str, str], problems: list[Problem]) -> Iterator[tuple[str, Any, str]]:
    for alias, name in ALIASES.items():
        if alias in env:
            yield name, _negated(env[alias]) if alias == _NEGATED_ALIAS else env[alias], alias
    known = set(setting_names())
    for variable, value in env.items():
        if not variable.startswith(ENV_PREFIX) or variable in _NOT_SETTINGS:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if name not in known:
            problems.append(Problem(where=variable, what=_unknown(name, known)))
            continue
        try:
            given = _from_text(name, value)
        except ValueError as exc:
            problems.append(Problem(where=variable, what=f"begins like a JSON list and is none: {exc}"))
            continue
        if name == "routes":
            problems += _unknown_in_routes(given)
        yield name, given, variable


def _negated(text: str) -> str:
    return "false" if text.strip().lower() in {"1", "true", "yes", "on"} else "true"


def _from_text(name: str, value: str) -> Any:
    """A list is written in JSON, or with commas or spaces between its items. Raises: ValueError (no JSON)."""
    if not _is_list(name):
        return None if value == "" and name.startswith("server.http") else value
    if _LIST_BEGINS.match(value):
        return json.loads(value)
    return value.replace(",", " ").split()


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    leaf = difflib.get_close_matches(
        name.rpartition(".")[2], {k.rpartition(".")[2] for k in known}, n=1, cutoff=0.7
    )
    if not near and leaf:
        near = [next(k for k in sorted(known) if k.endswith(f".{leaf[0]}"))]
    return f"unknown setting; did you mean {near[0]}?" if near else "unknown setting"


def _read_secret_files(values: dict[str, Any], origins: dict[str, str], problems: list[Problem]) -> None:
    for name in _SECRETS:
        path = values.get(f"{name}_file")
        if not isinstance(path, str | Path) or name in values:
            continue
        try:
            values[name], origins[name] = Path(path).read_text().strip(), str(path)
        except OSError as exc:
            problems.append(Problem(where=f"{name}_file", what=f"{path}: {exc.strerror}"))
        except ValueError:  # of its bytes nothing is shown
            problems.append(Problem(where=f"{name}_file", what=f"{path}: is no text"))


def _validate(
    values: Mapping[str, Any], origins: Mapping[str, str], problems: list[Problem]
) -> Settings | None:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *sections, leaf = name.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
        table[leaf] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as exc:
        for error in exc.errors():
            if error["type"] == "extra_forbidden":
                continue  # told before, with the nearest name
            where = ".".join(str(step) for step in error["loc"])
            # Of a whole table nothing is shown: there may be secrets in it.
            is_hidden = where in _SECRETS or isinstance(error["input"], dict)
            shown = "" if is_hidden else f" (is {error['input']!r})"
            origin = f", from {origins[where]}" if where in origins else ""
            what = mask_password(error["msg"].removeprefix("Value error, ") + shown)
            problems.append(Problem(where=where or "settings", what=f"{what}{origin}"))
        return None


def shown(value: object) -> object:
    """A setting's value as it may be printed: secrets are masked, in URLs, too."""
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, str):
        return mask_password(value)
    return str(value) if isinstance(value, Path) else value
