"""Owns what an nginx location sends requests to, and which location a path belongs to."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.nginx_config import Directive

# What a backend that does not speak HTTP must be replaced by.
_OTHER_PROTOCOLS: Final = {
    "uwsgi_pass": "uWSGI's own protocol: let the application speak HTTP (uwsgi --http-socket, gunicorn)",
    "fastcgi_pass": "FastCGI: put an HTTP server in front of it, or let the application speak HTTP",
    "scgi_pass": "SCGI: let the application speak HTTP",
    "grpc_pass": "gRPC, which needs HTTP/2",
}
# What a ``return`` says to everybody: there is nothing for you.
_REFUSALS: Final = (("403",), ("404",), ("410",), ("444",))
PLACEHOLDER: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where a location's requests go. ``path`` replaces the location's own, "" = it stays."""

    upstream: str
    path: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Location:
    """One location of a server. ``kind`` is "", "=", "^~", "~", "~*" or "@". ``inherited`` are the outer levels."""

    kind: str
    pattern: str
    directive: Directive
    inherited: tuple[Directive, ...]
    inner: tuple[Directive, ...] = field(default=())

    def find(self, *names: str) -> list[Directive]:
        """The directives of these names that count here: the innermost level that has any."""
        levels = [self.inner, *(level.block or () for level in reversed(self.inherited))]
        for level in levels:
            found = [directive for directive in level if directive.name in names]
            if found:
                return found
        return []

    def value(self, name: str) -> str | None:
        """The first argument of the directive that counts here."""
        found = self.find(name)
        return found[0].args[0] if found and found[0].args else None

    def own(self, name: str) -> Directive | None:
        """The directive if it is written in this location itself."""
        return next((directive for directive in self.inner if directive.name == name), None)

    @property
    def title(self) -> str:
        """How it begins, for people."""
        return " ".join(part for part in ("location", self.kind, self.pattern) if part)

    @property
    def is_internal(self) -> bool:
        """Whether no client may ask for it; what stands within such a location may not be asked for either."""
        return bool(self.find("internal"))

    @property
    def is_closed(self) -> bool:
        """Whether it refuses everybody, whatever else stands in it: by itself, or by the rules of an outer level."""
        by_name: dict[str, list[Directive]] = {}
        for directive in self.inner:
            by_name.setdefault(directive.name, []).append(directive)
        if by_name.keys() & {"if", "rewrite", "break"}:
            return False  # what comes before the refusal may be an answer
        if "return" in by_name:
            refusal = by_name["return"][0].args[:1]
            return refusal in _REFUSALS and not self._is_replaced(*refusal)
        rules = self.find("allow", "deny")
        refuses = bool(rules) and (rules[0].name, rules[0].args) == ("deny", ("all",))
        return refuses and self.value("satisfy") != "any" and not self._is_replaced("403")

    def _is_replaced(self, status: str) -> bool:
        """Whether something else is answered instead of this status."""
        return any(status in directive.args[:-1] for directive in self.find("error_page"))

    def is_target(self, locations: "Sequence[Location]") -> bool:
        """Whether an upload or the question of an ``auth_request`` of one of these ends here."""
        for other in locations:
            passed = other.own("upload_pass")
            targets = (*(passed.args if passed else ()), other.value("auth_request") or "")
            if any(target.startswith("/") and location_for(locations, target) is self for target in targets):
                return True
        return False


def locations_of(server: Directive, outer: tuple[Directive, ...]) -> list[Location]:
    """Every location of a server, nested ones too."""
    return list(_locations(server, (*outer, server)))


def _locations(block: Directive, outer: tuple[Directive, ...]) -> Iterator[Location]:
    for directive in block.block or ():
        if directive.name != "location" or not directive.args:
            continue
        *kind, pattern = directive.args
        if not kind and pattern.startswith("@"):
            kind, pattern = ["@"], pattern[1:]
        elif not kind and (glued := re.match(r"(\^~|~\*|~|=)(.+)", pattern)):
            kind, pattern = [glued[1]], glued[2]  # nginx allows "location =/path"
        yield Location(
            kind=kind[0] if kind else "",
            pattern=pattern,
            directive=directive,
            inherited=outer,
            inner=directive.block or (),
        )
        yield from _locations(directive, (*outer, directive))


def location_for(locations: Sequence[Location], path: str) -> Location | None:
    """The location that nginx would choose for a path, regular expressions included where Python can read them."""
    exact = [loc for loc in locations if loc.kind == "=" and loc.pattern == path]
    if exact:
        return exact[0]
    prefixes = [loc for loc in locations if loc.kind in {"", "^~"} and path.startswith(loc.pattern)]
    best = max(prefixes, key=lambda loc: len(loc.pattern), default=None)
    if best is None or best.kind != "^~":
        for loc in locations:
            if loc.kind in {"~", "~*"} and _matches(loc, path):
                return loc
    return best


def _matches(location: Location, path: str) -> bool:
    try:
        return bool(re.search(location.pattern, path, re.IGNORECASE if location.kind == "~*" else 0))
    except re.error:
        return False


def backend_of(location: Location, upstreams: Mapping[str, Directive]) -> Backend | None:
    """Where the location's requests go; None if it does not pass them on."""
    for name, why in _OTHER_PROTOCOLS.items():
        passed = location.own(name)
        if passed is not None:
            return Backend(
                upstream=PLACEHOLDER,
                notes=(f"{passed.place}: '{name} {' '.join(passed.args)}' speaks {why}. Set its upstream.",),
            )
    passed = location.own("proxy_pass")
    if passed is None or not passed.args:
        return None
    return _proxied(passed, upstreams)


def _proxied(passed: Directive, upstreams: Mapping[str, Directive]) -> Backend:
    target = passed.args[0]
    unix = re.fullmatch(r"http://unix:([^:]+)(?::(/.*)?)?", target)
    if unix:
        return Backend(upstream=f"unix:{unix[1]}", path=unix[2] or "")
    found = re.fullmatch(r"(https?)://([^/$]+)(/[^$]*)?", target)
    if found is None or found[1] == "https":
        why = "has variables" if found is None else "speaks TLS to the backend"
        return Backend(
            upstream=PLACEHOLDER, notes=(f"{passed.place}: 'proxy_pass {target}' {why}. Set its upstream.",)
        )
    address, path = found[2], found[3] or ""
    if address not in upstreams:
        return Backend(upstream=f"http://{address}", path=path)
    servers = [d.args[0] for d in upstreams[address].block or () if d.name == "server" and d.args]
    notes: tuple[str, ...] = ()
    if len(servers) != 1:
        notes = (
            f"{upstreams[address].place}: the upstream '{address}' has {len(servers)} servers; a route has one.",
        )
    first = servers[0] if servers else PLACEHOLDER.removeprefix("http://")
    return Backend(upstream=first if first.startswith("unix:") else f"http://{first}", path=path, notes=notes)
