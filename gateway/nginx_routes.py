"""Owns what an nginx configuration with the upload module means here: routes and settings, and what gets lost.

Pure. The module's directives are those of fdintino/nginx-upload-module; docs/upload-routes.md says what differs.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from pydantic import ValidationError

from gateway.nginx_config import Directive
from gateway.nginx_losses import OPEN, auth_loss, note_losses, note_unread
from gateway.nginx_result import Imported
from gateway.nginx_server import is_https_redirect, note_level, take_server
from gateway.nginx_uploads import BODY_DEFAULT, Site, size_of, take_upload
from gateway.nginx_upstreams import Backend, Location, backend_of, location_for, locations_of
from gateway.settings_routes import Route, find_route, normal_path

# What a location without a backend does; one note names them together.
_OWN_ANSWERS: Final = {
    "root": "serves files",
    "alias": "serves files",
    "try_files": "serves files",
    "index": "serves files",
    "autoindex": "serves files",
    "return": "answers by itself",
    "rewrite": "rewrites",
}
# With a backend these decide nothing more.
_FILES: Final = frozenset(("root", "alias", "index", "autoindex"))
# Without these a route would do something else, or for more people.
_NEEDED: Final = frozenset(("path", "prefix", "action", "upstream", "pass_to", "store", "auth_url"))


def translate(config: Iterable[Directive]) -> Imported:
    """The routes and settings that do what this configuration does."""
    config = tuple(config)
    made = Imported()
    note_unread(made, config)
    servers = [(http, server) for http in _https(config) for server in http.block or () if _is_server(server)]
    for http, server in servers:
        take_server(made, http, server)
    note_losses(made, (d for d in config if not _is_server(d)) if _has_http(config) else ())
    for http in _https(config):
        note_level(made, http, [server for outer, server in servers if outer is http])
    for http, server in servers:
        note_level(made, server, (server,))
        site = Site(locations_of(server, (http,)), _upstreams(http.block or ()))
        for location in _in_order(site.locations):
            _take_location(made, location, site)
        _hide_targets(made, site)
    made.routes.sort(key=_precedence)
    if not any(route["action"] != "hide" for route in made.routes):
        made.note("no location with upload_pass or proxy_pass was found")
    return made


def _has_http(config: tuple[Directive, ...]) -> bool:
    return any(directive.name == "http" for directive in config)


def _https(config: tuple[Directive, ...]) -> list[Directive]:
    """The http blocks. A file of servers alone, as in sites-enabled, is what stands in one."""
    found = [directive for directive in config if directive.name == "http"]
    loose = tuple(d for d in config if not found or _is_server(d))
    if loose:
        found.append(Directive(name="http", args=(), block=loose, file=loose[0].file, line=loose[0].line))
    return found


def _is_server(directive: Directive) -> bool:
    return directive.name == "server" and directive.block is not None


def _upstreams(block: Iterable[Directive]) -> dict[str, Directive]:
    return {d.args[0]: d for d in block if d.name == "upstream" and d.args}


def _in_order(locations: list[Location]) -> list[Location]:
    """As nginx prefers them: exact ones, then prefixes, the longest first."""
    return sorted(locations, key=lambda loc: (loc.kind != "=", -len(loc.pattern)))


def _precedence(route: dict[str, Any]) -> tuple[bool, int, bool]:
    """The same for the routes of all servers together: they are tried in their order, and one that hides must win."""
    place, is_exact = _place_of(route)
    return not is_exact, -len(place), route["action"] != "hide"


def _place_of(route: dict[str, Any]) -> tuple[str, bool]:
    if "path" in route:
        return normal_path(route["path"]), True
    return normal_path(route["prefix"]).rstrip("/"), False


def _take_location(made: Imported, location: Location, site: Site) -> None:
    if location.kind == "@":  # only a target
        _note_inner(made, location)
        return
    if location.is_internal or location.is_closed:
        _take_hidden(made, location, site)
        return
    passed = location.own("upload_pass")
    backend = None if passed else backend_of(location, site.upstreams)
    if passed is None and backend is None:
        _note_no_backend(made, location)
        return
    place = _place(location)
    if place is None:
        made.note(
            f"{location.directive.place}: '{location.title}' is a pattern; a route has a path or a prefix"
        )
        _note_inner(made, location, told=_FILES | {"upload_pass"})
        return
    route: dict[str, Any] = dict([place])
    if passed is not None:
        take_upload(made, location, passed, route, site)
    elif backend is not None:
        _take_forward(made, location, backend, route)
    _take_auth(made, location, route, site)
    note_losses(made, location.inner, told=_FILES | {"upload_pass"})
    _add_route(made, route, location)


def _take_hidden(made: Imported, location: Location, site: Site) -> None:
    if location.is_internal:
        if location.is_target(site.locations):
            _note_inner(made, location, told=_FILES)
        else:
            made.note(f"{location.directive.place}: '{location.title}' is internal: nothing leads to it here")
    place = _place(location)
    if place is None:
        made.note(
            f"{location.directive.place}: '{location.title}' is a pattern, which cannot be hidden: a route has a"
            f" path or a prefix; {OPEN}"
        )
        return
    _add_route(made, dict([place]) | {"action": "hide"}, location)


def _hide_targets(made: Imported, site: Site) -> None:
    """Hide where uploads end also where the prefix of a route does not reach: nginx compares characters, not steps."""
    for location in site.locations:
        passed = location.own("upload_pass")
        target = passed.args[0] if passed and passed.args else ""
        found = location_for(site.locations, target) if target.startswith("/") and "$" not in target else None
        if found is None or not found.is_internal:
            continue
        hiding = [Route.model_validate(route) for route in made.routes if route["action"] == "hide"]
        place = _encoded(target.partition("?")[0])
        if find_route(hiding, place) is None:
            _add_route(made, {"path": place, "action": "hide"}, found)


def _place(location: Location) -> tuple[str, str] | None:
    if location.kind in {"", "^~", "="} and location.pattern.startswith("/"):
        return "path" if location.kind == "=" else "prefix", _encoded(location.pattern)
    return None


def _encoded(path: str) -> str:
    # nginx compares decoded paths; a route's is written as a client sends it.
    return quote(path, safe="/~@:$+!*'(),;=&-._", errors="surrogateescape")


def _note_inner(made: Imported, location: Location, *, told: frozenset[str] = frozenset()) -> None:
    """Name what is lost within a location that becomes no route."""
    note_losses(made, location.inner, told=told)
    for directive in location.inner:
        if directive.name == "auth_request" and (why := auth_loss(directive)):
            made.note(f"{directive.place}: 'auth_request {' '.join(directive.args)}': {why}")


def _note_no_backend(made: Imported, location: Location) -> None:
    if any(is_https_redirect(made, directive) for directive in location.inner):
        return
    own = list(dict.fromkeys(d.name for d in location.inner if d.name in _OWN_ANSWERS))
    what = f"{_OWN_ANSWERS[own[0]]} ({', '.join(own)})" if own else "has no backend"
    made.note(f"{location.directive.place}: '{location.title}' {what}; routes only pass requests on")
    _note_inner(made, location, told=frozenset(own))


def _take_forward(made: Imported, location: Location, backend: Backend, route: dict[str, Any]) -> None:
    for note in backend.notes:
        made.note(note)
    if backend.path and backend.path != location.pattern:
        made.note(
            f"{location.directive.place}: proxy_pass replaces '{location.pattern}' by '{backend.path}';"
            " a forwarded path stays as it is"
        )
    route.update(action="forward", upstream=backend.upstream)
    limit = location.value("client_max_body_size")
    route["max_body_bytes"] = BODY_DEFAULT if limit is None else size_of(limit) or 0


def _take_auth(made: Imported, location: Location, route: dict[str, Any], site: Site) -> None:
    asked = location.value("auth_request")
    if not asked or asked == "off":
        return
    if not re.fullmatch(r"/[!-~]*", asked) or "$" in asked:
        made.note(
            f"{location.directive.place}: auth_request {asked} has variables. Set auth_url; until then {OPEN}"
        )
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


def _add_route(made: Imported, route: dict[str, Any], location: Location) -> None:
    if route["action"] != "hide":
        route = _loadable(made, route, location)
    place = _place_of(route)
    for index, known in enumerate(made.routes):
        if _place_of(known) == place:
            if known != route:
                made.routes[index] = _kept(known, route, is_whole_site=place == ("", False))
                kept = "the first one" if made.routes[index] is known else "this one"
                made.note(
                    f"{location.directive.place}: '{location.title}' is there a second time and differs; {kept} is"
                    " kept"
                )
            return
    made.routes.append(route)


def _kept(known: dict[str, Any], route: dict[str, Any], *, is_whole_site: bool) -> dict[str, Any]:
    """What is hidden stays so. But a server for strangers, which answers nobody, must not hide all of another."""
    is_hidden = route["action"] == "hide"
    if is_hidden == (known["action"] == "hide"):
        return known
    return route if is_hidden != is_whole_site else known


def _loadable(made: Imported, route: dict[str, Any], location: Location) -> dict[str, Any]:
    """The route without what the settings would refuse. If it cannot be without, its place is hidden instead."""
    while True:
        try:
            Route.model_validate(route)
        except ValidationError as exc:
            errors = exc.errors()
        else:
            return route
        refused: set[str] = set()
        for error in errors:
            where, what = (
                str(error["loc"][0]) if error["loc"] else "",
                error["msg"].removeprefix("Value error, "),
            )
            refused.add(where)
            made.note(
                f"{location.directive.place}: '{location.title}': {where + ': ' if where else ''}{what}."
                + (
                    " It is hidden until that is put right."
                    if where in {"", *_NEEDED}
                    else " It is left out."
                )
            )
        if refused & {"", *_NEEDED}:
            return {name: route[name] for name in ("path", "prefix") if name in route} | {"action": "hide"}
        route = {name: value for name, value in route.items() if name not in refused}
