"""Owns what the directives of the nginx upload module mean here: the settings of one upload route."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.nginx_config import Directive
from gateway.nginx_result import Imported
from gateway.nginx_upstreams import PLACEHOLDER, Location, backend_of, location_for
from gateway.template import parse_template

_SIZE: Final = re.compile(r"(\d+)([kKmMgG]?)")
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
BODY_DEFAULT: Final = 1 << 20  # nginx's client_max_body_size where none is set
_PART_HEADER_DEFAULT: Final = 8 << 10
PLACEHOLDER_STORE: Final = "/var/spool/uploads"
_SIZES: Final = {
    "upload_max_file_size": "max_file_bytes",
    "client_max_body_size": "max_total_bytes",
    "upload_max_output_body_len": "max_output_bytes",
    "upload_limit_rate": "max_rate",
}


@dataclass(frozen=True, slots=True)
class Site:
    """What a location may refer to."""

    locations: list[Location]
    upstreams: Mapping[str, Directive]


def take_upload(
    made: Imported, location: Location, passed: Directive, route: dict[str, Any], site: Site
) -> None:
    """Fill in ``route`` what its location says; what cannot be said is noted and left out."""
    route["action"] = "upload"
    route |= _target(made, passed, site)
    _take_store(made, location, route)
    _note_public_store(made, route, site)
    for directive, setting in _SIZES.items():
        value = location.value(directive)
        if value is not None and (size := size_of(value)) is not None:
            route[setting] = size
    route.setdefault("max_total_bytes", BODY_DEFAULT)
    header = location.value("upload_max_part_header_len")
    if header and (size := size_of(header) or 0) > _PART_HEADER_DEFAULT:
        route["max_part_header_bytes"] = size
    for directive, setting in (("upload_tame_arrays", "tame_arrays"), ("upload_pass_args", "pass_args")):
        if location.value(directive) == "on":
            route[setting] = True
    _take_passed(made, location, route)
    cleanup = [status for d in location.find("upload_cleanup") for status in d.args]
    if cleanup:
        route["cleanup"] = cleanup
    _take_fields(made, location, route)


def size_of(text: str) -> int | None:
    """A size as nginx writes it, in bytes."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2].lower()] if found else None


def _target(made: Imported, passed: Directive, site: Site) -> dict[str, Any]:
    target = passed.args[0] if passed.args else ""
    named = target.startswith("@")
    if named:
        found = next((loc for loc in site.locations if loc.kind == "@" and loc.pattern == target[1:]), None)
    else:
        found = location_for(site.locations, target)
    backend = backend_of(found, site.upstreams) if found else None
    if "$" in target or backend is None or found is None:
        made.note(
            f"{passed.place}: where 'upload_pass {target}' ends is not clear. Set upstream and pass_to."
        )
        return (
            {"upstream": PLACEHOLDER}
            if named or "$" in target
            else {"upstream": PLACEHOLDER, "pass_to": target}
        )
    for note in backend.notes:
        made.note(note)
    if named:  # a named location keeps path and query
        return {"upstream": backend.upstream, "pass_args": True} | (
            {"pass_to": backend.path} if backend.path else {}
        )
    if backend.path and found.kind in {"", "^~", "="}:
        target = backend.path + target.removeprefix(found.pattern)
    return {"upstream": backend.upstream, "pass_to": target}


def _take_store(made: Imported, location: Location, route: dict[str, Any]) -> None:
    store = location.find("upload_store")
    folder, *levels = store[0].args if store and store[0].args else ("",)
    if folder and "$" not in folder:
        route["store"] = folder
    else:
        # The place of a single upload, made of what its client sent: nothing here does that, and nothing should.
        place = store[0].place if folder else location.directive.place
        why = f"'upload_store {folder}' has variables" if folder else "there is no upload_store"
        made.note(f"{place}: {why}; {PLACEHOLDER_STORE} stands in its place. Set store.")
        route["store"] = PLACEHOLDER_STORE
    if levels:
        route["store_levels"] = [int(level) for level in levels if level.isdigit()]
    access = location.find("upload_store_access")
    if access and " ".join(access[0].args) != "user:rw":
        route["store_access"] = " ".join(access[0].args)


def _note_public_store(made: Imported, route: dict[str, Any], site: Site) -> None:
    for location in site.locations:
        served = location.own("alias") or location.own("root")
        if served and served.args and f"{route['store']}/".startswith(served.args[0].rstrip("/") + "/"):
            made.note(
                f"{served.place}: '{location.title}' serves the folder of the uploads, so that anybody may fetch"
                " them. Choose another store."
            )


def _take_passed(made: Imported, location: Location, route: dict[str, Any]) -> None:
    patterns: list[str] = []
    for found in location.find("upload_pass_form_field"):
        for pattern in found.args[:1]:
            try:
                re.compile(pattern)
            except re.error as exc:
                made.note(f"{found.place}: '{pattern}' is not a regular expression: {exc}. It is left out.")
            else:
                patterns.append(pattern)
    if patterns:
        route["pass_fields"] = patterns


def _take_fields(made: Imported, location: Location, route: dict[str, Any]) -> None:
    for directive, setting in (
        ("upload_set_form_field", "set_fields"),
        ("upload_aggregate_form_field", "aggregate_fields"),
    ):
        fields: dict[str, str] = {}
        for found in location.find(directive):
            if len(found.args) != 2:  # noqa: PLR2004 - a name and a value
                made.note(f"{found.place}: '{directive}' needs a name and a value")
                continue
            name, value = found.args
            if name in fields:
                made.note(f"{found.place}: the field '{name}' is set twice; the first one is kept")
                continue
            problem = _problem(
                name, value, aggregate=setting == "aggregate_fields", passes="pass_fields" in route
            )
            if problem:
                made.note(f"{found.place}: '{directive} {name} {value}': {problem}. The field is left out.")
            else:
                fields[name] = value
        if fields:
            route[setting] = fields


def _problem(name: str, value: str, *, aggregate: bool, passes: bool) -> str:
    """Why the settings would refuse this field."""
    try:
        has_text = parse_template(name, aggregate=False).has_text
        carries_path = "upload_tmp_path" in parse_template(value, aggregate=aggregate).variables
    except ValueError as exc:
        return str(exc)
    if passes and carries_path and not has_text:
        return "a client could send one of the same name: call it $upload_field_name.path"
    return ""
