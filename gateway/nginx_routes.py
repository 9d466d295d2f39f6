"""Owns what an nginx configuration with the upload module means here: routes and settings, and what gets lost.

Pure. The module's directives are those of fdintino/nginx-upload-module; docs/upload-routes.md says what differs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from gateway.nginx_config import Directive
from gateway.nginx_upstreams import PLACEHOLDER, Backend, Location, backend_of, location_for, locations_of
from gateway.settings_routes import Route

_SIZE: Final = re.compile(r"(\d+)([kKmMgG]?)")
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_BODY_DEFAULT: Final = 1 << 20  # nginx's client_max_body_size where none is set
_PART_HEADER_DEFAULT: Final = 8 << 10


@dataclass(slots=True)
class Imported:
    """What was made of a configuration. ``settings`` are tables by name; ``notes`` what could not be translated."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Remember, once, what is lost."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True, slots=True)
class _Site:
    """What a location may refer to."""

    locations: list[Location]
    upstreams: Mapping[str, Directive]


def translate(config: Iterable[Directive]) -> Imported:
    """The routes and settings that do what this configuration does."""
    made = Imported()
    for http, server, upstreams in _servers(config):
        _take_server(made, http, server)
        site = _Site(locations_of(server, (http,) if http else ()), upstreams)
        for location in _in_order(site.locations):
            _take_location(made, location, site)
    if not made.routes:
        made.note("no location with upload_pass or proxy_pass was found")
    return made


def _servers(
    config: Iterable[Directive],
) -> Iterator[tuple[Directive | None, Directive, dict[str, Directive]]]:
    """Each server with its http block. A file of servers alone, as in sites-enabled, is fine too."""
    config = tuple(config)
    for http in config:
        if http.name == "http":
            upstreams = _upstreams(http.block or ())
            for server in http.block or ():
                if server.name == "server" and server.block is not None:
                    yield http, server, upstreams
    for server in config:
        if server.name == "server" and server.block is not None:
            yield None, server, _upstreams(config)


def _upstreams(block: Iterable[Directive]) -> dict[str, Directive]:
    return {d.args[0]: d for d in block if d.name == "upstream" and d.args}


def _in_order(locations: list[Location]) -> list[Location]:
    """As nginx prefers them: exact ones, then prefixes, the longest first; routes are tried in their order."""
    return sorted(locations, key=lambda loc: (loc.kind != "=", -len(loc.pattern)))


# Servers


def _take_server(made: Imported, http: Directive | None, server: Directive) -> None:
    levels = (server.block or (), (http.block or ()) if http else ())
    listens = [d for d in levels[0] if d.name == "listen" and d.args]
    for listen in sorted(listens, key=lambda d: d.args[0].startswith("[::]")):
        _take_listen(made, listen)
    for names in (d for d in levels[0] if d.name == "server_name"):
        _take_names(made, names)
    certificate, key = _first(levels, "ssl_certificate"), _first(levels, "ssl_certificate_key")
    if certificate and key:
        made.settings["tls"] = {"mode": "files", "certificate": certificate.args[0], "key": key.args[0]}
    timeout = _first(levels, "client_body_timeout")
    if timeout and (seconds := _seconds(timeout.args[0])):
        made.settings.setdefault("limits", {})["body_idle_s"] = seconds


def _first(levels: Iterable[Iterable[Directive]], name: str) -> Directive | None:
    return next((d for level in levels for d in level if d.name == name and d.args), None)


def _take_listen(made: Imported, listen: Directive) -> None:
    address = listen.args[0]
    if address.isdigit():
        address = f"0.0.0.0:{address}"
    elif address.startswith("*:"):
        address = f"0.0.0.0:{address[2:]}"
    name = "https" if {"ssl", "quic"} & set(listen.args) else "http"
    if address.startswith("[::]") and name in made.settings.get("server", {}):
        return  # the twin of the listener for IPv4
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):\d+", address):
        made.note(f"{listen.place}: 'listen {' '.join(listen.args)}' is not ADDR:PORT")
        return
    known = made.settings.setdefault("server", {}).setdefault(name, address)
    if known != address:
        made.note(f"{listen.place}: one {name} listener is possible; {known} is kept, {address} is not")


def _take_names(made: Imported, names: Directive) -> None:
    known: list[str] = made.settings.setdefault("server", {}).setdefault("server_names", [])
    for name in names.args:
        if name in {"_", ""} or not re.fullmatch(r"[A-Za-z0-9.-]+", name):
            if name not in {"_", ""}:
                made.note(
                    f"{names.place}: the server name '{name}' is a pattern; routes serve every host name"
                )
        elif name not in known and name != "localhost":
            known.append(name)
    if not known:
        del made.settings["server"]["server_names"]


# Locations


def _take_location(made: Imported, location: Location, site: _Site) -> None:
    if location.own("internal"):
        if not location.is_target(site.locations):
            made.note(
                f"{location.directive.place}: '{_name(location)}' is internal: nothing leads to it here"
            )
        return
    passed = location.own("upload_pass")
    backend = None if passed else backend_of(location, site.upstreams)
    if passed is None and backend is None:
        _note_no_backend(made, location)
        return
    place = _place(location)
    if place is None:
        if location.kind != "@":  # a named location is only a target
            made.note(
                f"{location.directive.place}: '{_name(location)}' is a pattern; a route has a path or a prefix"
            )
        return
    route: dict[str, Any] = dict([place])
    if passed is not None:
        _take_upload(made, location, passed, route, site)
    elif backend is not None:
        _take_forward(made, location, backend, route, site)
    _note_unknown(made, location)
    _add_route(made, route, location)


def _place(location: Location) -> tuple[str, str] | None:
    if location.kind == "=":
        return "path", location.pattern
    if location.kind in {"", "^~"}:
        return "prefix", location.pattern
    return None


def _name(location: Location) -> str:
    return " ".join(part for part in ("location", location.kind, location.pattern) if part)


def _note_no_backend(made: Imported, location: Location) -> None:
    for name, what in (
        ("root", "serves files"),
        ("alias", "serves files"),
        ("return", "answers by itself"),
        ("rewrite", "rewrites"),
        ("deny", "refuses requests"),
    ):
        if location.own(name):
            made.note(
                f"{location.directive.place}: '{_name(location)}' {what} ({name}); routes only pass requests on"
            )
            return


def _take_forward(
    made: Imported, location: Location, backend: Backend, route: dict[str, Any], site: _Site
) -> None:
    for note in backend.notes:
        made.note(note)
    if backend.path and backend.path != location.pattern:
        made.note(
            f"{location.directive.place}: proxy_pass replaces '{location.pattern}' by '{backend.path}';"
            " a forwarded path stays as it is"
        )
    route.update(action="forward", upstream=backend.upstream)
    _take_auth(made, location, route, site)
    limit = location.value("client_max_body_size")
    route["max_body_bytes"] = _BODY_DEFAULT if limit is None else _size(limit) or 0


def _take_upload(
    made: Imported, location: Location, passed: Directive, route: dict[str, Any], site: _Site
) -> None:
    route["action"] = "upload"
    route |= _target(made, passed, site)
    _take_auth(made, location, route, site)
    _take_store(location, route)
    _note_public_store(made, route, site)
    for directive, setting in _SIZES.items():
        value = location.value(directive)
        if value is not None and (size := _size(value)) is not None:
            route[setting] = size
    route.setdefault("max_total_bytes", _BODY_DEFAULT)
    header = location.value("upload_max_part_header_len")
    if header and (size := _size(header) or 0) > _PART_HEADER_DEFAULT:
        route["max_part_header_bytes"] = size
    for directive, setting in (("upload_tame_arrays", "tame_arrays"), ("upload_pass_args", "pass_args")):
        if location.value(directive) == "on":
            route[setting] = True
    patterns = [d.args[0] for d in location.find("upload_pass_form_field") if d.args]
    if patterns:
        route["pass_fields"] = patterns
    cleanup = [status for d in location.find("upload_cleanup") for status in d.args]
    if cleanup:
        route["cleanup"] = cleanup
    _take_fields(made, location, route)


_SIZES: Final = {
    "upload_max_file_size": "max_file_bytes",
    "client_max_body_size": "max_total_bytes",
    "upload_max_output_body_len": "max_output_bytes",
    "upload_limit_rate": "max_rate",
}


def _target(made: Imported, passed: Directive, site: _Site) -> dict[str, Any]:
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


def _take_store(location: Location, route: dict[str, Any]) -> None:
    store = location.find("upload_store")
    if store and store[0].args:
        folder, *levels = store[0].args
        route["store"] = folder
        if levels:
            route["store_levels"] = [int(level) for level in levels if level.isdigit()]
    access = location.find("upload_store_access")
    if access and " ".join(access[0].args) != "user:rw":
        route["store_access"] = " ".join(access[0].args)


def _note_public_store(made: Imported, route: dict[str, Any], site: _Site) -> None:
    for location in site.locations:
        served = location.own("alias") or location.own("root")
        if (
            served
            and served.args
            and f"{route.get('store', '')}/".startswith(served.args[0].rstrip("/") + "/")
        ):
            made.note(
                f"{served.place}: '{_name(location)}' serves the folder of the uploads, so that anybody may fetch"
                " them. Choose another store."
            )


def _take_fields(made: Imported, location: Location, route: dict[str, Any]) -> None:
    for directive, setting in (
        ("upload_set_form_field", "set_fields"),
        ("upload_aggregate_form_field", "aggregate_fields"),
    ):
        fields: dict[str, str] = {}
        for found in location.find(directive):
            if len(found.args) != 2:  # noqa: PLR2004 - a name and a value
                made.note(f"{found.place}: '{directive}' needs a name and a value")
            elif found.args[0] in fields:
                made.note(f"{found.place}: the field '{found.args[0]}' is set twice; the first one is kept")
            else:
                fields[found.args[0]] = found.args[1]
        if fields:
            route[setting] = fields


def _take_auth(made: Imported, location: Location, route: dict[str, Any], site: _Site) -> None:
    asked = location.value("auth_request")
    if not asked or asked == "off":
        return
    if not re.fullmatch(r"/[!-~]*", asked) or "$" in asked:
        made.note(f"{location.directive.place}: auth_request {asked} has variables. Set auth_url.")
        return
    target = location_for(site.locations, asked)
    backend = target and backend_of(target, site.upstreams)
    route["auth_url"] = asked
    if target and backend:
        if backend.path:
            route["auth_url"] = backend.path + ("" if target.kind == "=" else asked[len(target.pattern) :])
        if backend.upstream == route["upstream"]:
            return
        if backend.upstream.startswith("http://") and not backend.notes:
            route["auth_url"] = backend.upstream + route["auth_url"]
            return
    made.note(
        f"{location.directive.place}: auth_request {asked} became auth_url: the gateway asks the route's upstream"
        " for that path. If another backend answers it, give its whole URL."
    )


# What is known to need nothing here, and what is not known.
_NO_COUNTERPART: Final = {
    "upload_resumable": "uploads that can be resumed are at /uploads/ (tus), with another protocol",
    "upload_add_header": "no header is added to answers",
    "limit_except": "methods are not limited",
    "if": "conditions have no counterpart",
    "rewrite": "paths are not rewritten",
    "allow": "addresses are not limited",
    "deny": "addresses are not limited",
    "add_header": "no header is added to answers",
    "auth_basic": "passwords are not asked by the gateway; use auth_url",
    "error_page": "answers are not replaced",
    "limit_req": "requests are not rated",
    "limit_conn": "connections are not counted",
}


def _note_unknown(made: Imported, location: Location) -> None:
    for directive in location.inner:
        why = _NO_COUNTERPART.get(directive.name, "")
        if why and directive.args != ("off",):
            made.note(f"{directive.place}: '{directive.name} {' '.join(directive.args)}': {why}")
    for name in ("upload_resumable", "upload_add_header"):
        for directive in location.find(name):
            if directive not in location.inner and directive.args != ("off",):
                made.note(f"{directive.place}: '{name} {' '.join(directive.args)}': {_NO_COUNTERPART[name]}")


def _add_route(made: Imported, route: dict[str, Any], location: Location) -> None:
    place = (route.get("path"), route.get("prefix"))
    for known in made.routes:
        if (known.get("path"), known.get("prefix")) == place:
            if known != route:
                made.note(
                    f"{location.directive.place}: '{_name(location)}' is there a second time and differs; the first"
                    " one is kept"
                )
            return
    try:
        Route.model_validate(route)
    except ValidationError as exc:
        for error in exc.errors():
            what = error["msg"].removeprefix("Value error, ")
            where = ".".join(str(step) for step in error["loc"])
            made.note(
                f"{location.directive.place}: '{_name(location)}': {where + ': ' if where else ''}{what}"
            )
    made.routes.append(route)


def _size(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2].lower()] if found else None


def _seconds(text: str) -> float | None:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
    found = re.fullmatch(r"(\d+)(ms|[smhd]?)", text)
    return int(found[1]) * units[found[2]] if found else None
