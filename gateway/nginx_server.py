"""Owns what an nginx server means here: listeners, names, certificate. And what of http and server level is lost."""

import re
from collections.abc import Iterable
from typing import Final

from gateway.nginx_config import Directive
from gateway.nginx_losses import note_losses
from gateway.nginx_result import Imported

_HARMLESS_LISTEN: Final = re.compile(
    r"ssl|http2|default|default_server|reuseport|deferred|bind|(?:backlog|rcvbuf|sndbuf|fastopen|so_keepalive"
    r"|ipv6only|setfib)=.*"
)
_LISTEN_LOSSES: Final = {
    "proxy_protocol": "set server.proxy_protocol to the networks of the load balancers",
    "quic": "HTTP/3 is not served",
}
# Of server and http level, only for locations that serve files, which are named.
_FILES: Final = frozenset(("root", "index", "autoindex"))


def take_server(made: Imported, http: Directive | None, server: Directive) -> None:
    """The settings that a server makes."""
    levels = (server.block or (), (http.block or ()) if http else ())
    listens = [d for d in levels[0] if d.name == "listen" and d.args]
    for listen in sorted(listens, key=lambda d: d.args[0].startswith("[::]")):
        _take_listen(made, listen)
    for names in (d for d in levels[0] if d.name == "server_name"):
        _take_names(made, names)
    _take_certificate(made, levels)
    timeout = _first(levels, "client_body_timeout")
    if timeout and (seconds := _seconds(timeout.args[0])):
        made.settings.setdefault("limits", {})["body_idle_s"] = seconds


def note_level(made: Imported, level: Directive, servers: Iterable[Directive]) -> None:
    """Name what is lost of an http or server block itself."""
    has_root = all(any(_is_root(d) for d in server.block or ()) for server in servers)
    told = _FILES if has_root else frozenset[str]()
    kept = (d for d in level.block or () if not is_https_redirect(made, d))
    note_losses(made, kept, told=told)


def is_https_redirect(made: Imported, directive: Directive) -> bool:
    """Whether it does what ``tls.redirect`` does: this very request, by https."""
    server = made.settings.get("server", {})
    hosts = "|".join(map(re.escape, ("$host", "$http_host", "$server_name", *server.get("server_names", ()))))
    return (
        directive.name == "return"
        and "https" in server
        and directive.args[:1] in {("301",), ("302",), ("307",), ("308",)}
        and bool(re.fullmatch(rf"https://(?:{hosts})\$request_uri", "".join(directive.args[1:])))
    )


def _is_root(directive: Directive) -> bool:
    return (
        directive.name == "location" and directive.args[-1:] == ("/",) and directive.args[0] not in {"=", "~"}
    )


def _first(levels: Iterable[Iterable[Directive]], name: str) -> Directive | None:
    return next((d for level in levels for d in level if d.name == name and d.args), None)


def _take_certificate(made: Imported, levels: tuple[Iterable[Directive], ...]) -> None:
    certificate, key = _first(levels, "ssl_certificate"), _first(levels, "ssl_certificate_key")
    if not certificate or not key:
        return
    made_of = {"mode": "files", "certificate": certificate.args[0], "key": key.args[0]}
    if "$" in certificate.args[0] + key.args[0]:
        made.note(f"{certificate.place}: 'ssl_certificate {certificate.args[0]}' has variables. Set [tls].")
    elif made.settings.setdefault("tls", dict(made_of)) != made_of:
        known = made.settings["tls"]["certificate"]
        made.note(
            f"{certificate.place}: one certificate is possible; {known} is kept, {certificate.args[0]} is not"
        )


def _take_listen(made: Imported, listen: Directive) -> None:
    address = listen.args[0]
    if address.isdigit():
        address = f"0.0.0.0:{address}"
    elif address.startswith("*:"):
        address = f"0.0.0.0:{address[2:]}"
    for word in listen.args[1:]:
        if not _HARMLESS_LISTEN.fullmatch(word):
            why = _LISTEN_LOSSES.get(word, "it has no counterpart")
            made.note(f"{listen.place}: '{word}' of 'listen {' '.join(listen.args)}': {why}")
    name = "https" if {"ssl", "quic"} & set(listen.args) else "http"
    if address.startswith("[::]") and name in made.settings.get("server", {}):
        return  # the twin of the listener for IPv4
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):\d{1,5}", address):
        made.note(f"{listen.place}: 'listen {' '.join(listen.args)}' is not ADDR:PORT")
        return
    known = made.settings.setdefault("server", {}).setdefault(name, address)
    if known != address:
        made.note(f"{listen.place}: one {name} listener is possible; {known} is kept, {address} is not")


def _take_names(made: Imported, names: Directive) -> None:
    known: list[str] = made.settings.setdefault("server", {}).setdefault("server_names", [])
    own = [name for name in names.args if name not in {"_", "", "localhost"}]
    plain = [name for name in own if re.fullmatch(r"[A-Za-z0-9.-]+", name)]
    for name in own:
        if name not in plain:
            made.note(f"{names.place}: the server name '{name}' is a pattern; routes serve every host name")
    if known and plain and not {_bare(name) for name in known} & {_bare(name) for name in plain}:
        made.note(
            f"{names.place}: the server '{plain[0]}' and the server '{known[0]}' become one: routes serve every"
            " host name"
        )
    known.extend(name for name in dict.fromkeys(plain) if name not in known)
    if not known:
        del made.settings["server"]["server_names"]


def _bare(name: str) -> str:
    return name.removeprefix("www.")


def _seconds(text: str) -> float | None:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
    found = re.fullmatch(r"(\d+)(ms|[smhd]?)", text)
    return int(found[1]) * units[found[2]] if found else None
