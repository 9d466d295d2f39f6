"""Owns the maintenance switch: its state file, whom it stops, and the answer they get."""

import dataclasses
import html
import importlib.metadata
import ipaddress
import json
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

from gateway.contract import BLOB_PREFIX, TRANSFER_PREFIX, parse_moment
from gateway.errors import CoreDown
from gateway.http.exchange import Peer
from gateway.http.head import Field, RequestHead
from gateway.http.reply import Reply, json_reply
from gateway.maintenance_page import MaintenancePage
from gateway.settings import Settings

STATE_FILE: Final = "maintenance.json"
FLAG_FILE: Final = "maintenance.flag"
CONFIG_PATH: Final = "/assets/config/config.prod.json"
VERSION_PATH: Final = "/version"
# Plain semver without a 'v', at least alpha.2: everything else downgrades clients in the middle of a push
# (library-protocol section 0, fact 1).
API_VERSION: Final = "2.0.0-alpha.2"

_ALWAYS_OPEN: Final = ("/-/", "/.well-known/acme-challenge/")
_UPLOAD_PATHS: Final = ("/upload", "/uploads/", TRANSFER_PREFIX, "/v1/imagefile", "/v2/imagefile")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SLASHES: Final = re.compile("//+")
_LONGEST_RETRY_S: Final = 86400
# Two stat calls for each of thousands of requests a second would be a thirtieth of their time.
_LOOK_EVERY_S: Final = 0.01

type Mode = Literal["full", "read-only", "uploads-off"]
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MODES: Final[tuple[Mode, ...]] = get_args(Mode.__value__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceState:
    """A maintenance. ``at`` (0 = already) and ``until`` in epoch seconds; ``allow`` are networks that pass."""

    mode: Mode = "full"
    message: str = ""
    until: float | None = None
    allow: tuple[Network, ...] = ()
    since: float = 0.0
    at: float = 0.0


class MaintenanceSwitch:
    """The switch as all processes see it: two small files in the data folder, whichever was made by whom."""

    def __init__(self, data_dir: Path, *, look_every_s: float = _LOOK_EVERY_S) -> None:
        """``look_every_s``: how long what another process did may go unseen."""
        self._look_every_s = look_every_s
        self._state_path = os.fspath(data_dir / STATE_FILE)
        self._flag_path = os.fspath(data_dir / FLAG_FILE)
        self._look_at = 0.0
        self._seen: tuple[object, object] = (None, None)
        # Two, not one: the flag closes at once, and the plan is still there when the flag is gone.
        self._told: MaintenanceState | None = None
        self._flagged: MaintenanceState | None = None

    def current(self) -> MaintenanceState | None:
        """The maintenance that is on now, or None."""
        self._look()
        if self._told is not None and self._told.at <= time.time():
            return self._told
        return self._flagged

    def planned(self) -> MaintenanceState | None:
        """What is on now, or else what will be."""
        return self.current() or self._told

    def coming(self) -> MaintenanceState | None:
        """What was planned and has not begun, whether something else is on now or not."""
        self._look()
        return None if self._told is None or self._told.at <= time.time() else self._told

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self._look_every_s
        seen = (_stamp(self._state_path), _stamp(self._flag_path))
        if seen != self._seen:
            self._told, self._flagged = self._read_told(), self._read_flag()
            self._seen = seen

    def turn_on(self, state: MaintenanceState) -> None:
        """Open a maintenance, or change the open one. Atomic, survives restarts. Raises: OSError."""
        path = Path(self._state_path)
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        value = dataclasses.asdict(state) | {"allow": [str(network) for network in state.allow]}
        try:
            with fresh.open("w") as file:
                json.dump(value, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
            self._look_at = 0.0

    def turn_off(self) -> None:
        """End it, whichever file began it."""
        self._look_at = 0.0
        Path(self._state_path).unlink(missing_ok=True)
        Path(self._flag_path).unlink(missing_ok=True)

    def _read_told(self) -> MaintenanceState | None:
        try:
            return parse_state(Path(self._state_path).read_bytes())
        except FileNotFoundError:
            return None
        except OSError:
            return MaintenanceState()

    def _read_flag(self) -> MaintenanceState | None:
        try:
            return MaintenanceState(message=Path(self._flag_path).read_text(errors="replace").strip()[:2000])
        except FileNotFoundError:
            return None
        except OSError:
            return MaintenanceState()


def _stamp(path: str) -> object:
    try:
        stat = os.stat(path)  # noqa: PTH116 - a Path costs as much again as the call
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def parse_state(data: bytes) -> MaintenanceState:
    """The state in a file. One that cannot be understood counts as a full maintenance: somebody meant to close."""
    try:
        value: dict[str, Any] = json.loads(data)
        mode = value.get("mode", "full")
        until = value.get("until")
        return MaintenanceState(
            mode=mode if mode in MODES else "full",
            message=str(value.get("message", "")),
            until=until if until is None else parse_moment(until),
            allow=parse_networks(value.get("allow", ())),
            since=parse_moment(value.get("since", 0.0)),
            at=parse_moment(value.get("at", 0.0)),
        )
    except (ValueError, TypeError, AttributeError):
        return MaintenanceState()


def parse_networks(values: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and CIDR networks. Raises: ValueError."""
    return tuple(ipaddress.ip_network(value, strict=False) for value in values)


def refusal(
    state: MaintenanceState | None,
    *,
    method: str,
    path: str,
    peer: Peer,
    admin_allow: tuple[Network, ...] = (),
    takes_uploads: bool | None = None,
) -> bool:
    """Whether this request is turned away. ``path`` without query, percent-encoded or not.

    ``takes_uploads`` is the word of a ``[[routes]]`` table, None where there is none: then the path tells.
    Loopback alone does not pass: who tests on the machine itself wants to see what users see.
    """
    if state is None:
        return False
    as_sent, path = path, _SLASHES.sub("/", path)
    # ``//-/../app`` is no page of ours: a backend would be asked for /app.
    if as_sent.startswith(_ALWAYS_OPEN) or path in (CONFIG_PATH, VERSION_PATH):
        return False
    if peer.is_certain and is_let_through(peer.address, state, admin_allow=admin_allow):
        return False
    match state.mode:
        case "full":
            return True
        case "read-only":
            return method not in _SAFE
        case "uploads-off":
            is_upload = path.startswith(_UPLOAD_PATHS) if takes_uploads is None else takes_uploads
            return method not in _SAFE and is_upload


def is_let_through(address: str, state: MaintenanceState, *, admin_allow: tuple[Network, ...]) -> bool:
    """Whether this address passes whatever is closed."""
    return _passes(address, state.allow) or _passes(address, admin_allow)


def _passes(address: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def must_cut(head: RequestHead) -> bool:
    """Whether a refusal must cut the connection instead of answering.

    Parallel downloaders write whatever answers a range into the image file, never looking at the status.
    """
    return head.method == "GET" and head.path.startswith(BLOB_PREFIX) and head.fields.has("range")


def static_api_reply(path: str, settings: Settings) -> Reply | None:
    """The two answers without which clients report nonsense or fall back to an older protocol; None for others."""
    match _SLASHES.sub("/", path):
        case "/assets/config/config.prod.json":
            here = {"uri": settings.public_url}
            keys = {"uri": settings.registry.keyserver or settings.public_url}
            return json_reply(200, {"libraryAPI": here, "tokenAPI": here, "keystoreAPI": keys})
        case "/version":
            return json_reply(200, {"data": {"version": f"v{own_version()}", "apiVersion": API_VERSION}})
        case _:
            return None


@cache
def own_version() -> str:
    """The version of this program."""
    try:
        return importlib.metadata.version("sregistry-gateway")
    except importlib.metadata.PackageNotFoundError:
        return "0.0.0"


class MaintenanceAnswers:
    """Makes the 503 answers. Reads its page once."""

    def __init__(self, settings: Settings) -> None:
        """Raises: OSError when the page cannot be read."""
        self._retry_after_s = settings.maintenance.retry_after_s
        self._page = MaintenancePage(settings.maintenance.page)
        contact = settings.registry.contact
        self._fixed = {
            "name": html.escape(settings.registry.name),
            "contact": html.escape(contact),
            "contact_href": html.escape(
                f"mailto:{contact}" if "@" in contact and ":" not in contact else contact
            ),
            "contact_hidden": "" if contact else "hidden",
        }

    def answer(
        self, state: MaintenanceState | None, head: RequestHead, request_id: str, *, message: str = ""
    ) -> Reply:
        """The answer to one request; ``state`` None means that nobody closed the door: the core is down.

        ``message`` then says what is.
        """
        now = time.time()
        retry_after_s = self._retry_after(state, now)
        fields: tuple[Field, ...] = (
            ("retry-after", str(retry_after_s)),
            ("cache-control", "no-store"),
            ("vary", "accept"),
        )
        message = (message if state is None else "") or _sentence(state)
        if not head.wants_html:
            line = message if state is None else _line(state, now)
            value = {"error": {"code": 503, "message": line}, "request_id": request_id}
            return json_reply(503, value, *fields)
        body = self._render(state, message, head, request_id)
        shown = (("content-type", "text/html; charset=utf-8"), ("content-security-policy", _PAGE_POLICY))
        return Reply(status=503, fields=(*shown, *fields), body=body.encode())

    def asset(self, head: RequestHead) -> Reply | None:
        """A file that belongs to a page of one's own (``/maintenance/NAME``), or None."""
        return self._page.asset(head.path) if head.method in {"GET", "HEAD"} else None

    def _retry_after(self, state: MaintenanceState | None, now: float) -> int:
        if state is None or state.until is None or state.until <= now:
            return self._retry_after_s
        return min(int(state.until - now) + 1, _LONGEST_RETRY_S)

    def _render(
        self, state: MaintenanceState | None, message: str, head: RequestHead, request_id: str
    ) -> str:
        until = state.until if state is not None else None
        shown = "" if until is None else _iso(until)
        is_safe = head.method in _SAFE
        changing = {
            "message": html.escape(message).replace("\n", "<br>"),
            "until": shown,
            "until_text": "" if until is None else formatdate(until, usegmt=True),
            "until_hidden": "" if shown else "hidden",
            "refresh": f'<meta http-equiv="refresh" content="{_REFRESH_S}">' if is_safe else "",
            "next": _NEXT_SAFE if is_safe else _NEXT_UNSAFE,
            "title": _TITLES[state.mode if state is not None else "full"],
            "request_id": html.escape(request_id),
        }
        return self._page.render({**self._fixed, **changing})


# Without JavaScript the page asks again by itself; with it, sooner.
_REFRESH_S: Final = 20
_NEXT_SAFE: Final = (
    "This page looks again by itself and takes you back to where you were. Running downloads go on."
)
# Repeating a form by itself would be wrong, and so would be leaving the page before it was read.
_NEXT_UNSAFE: Final = "Nothing of what you sent was kept. Go back and send it again later."
_OPENINGS: Final[dict[Mode, str]] = {
    "full": "The registry is down for maintenance",
    "read-only": "The registry is read-only during maintenance, downloads work",
    "uploads-off": "Uploads are switched off for maintenance, downloads work",
}
_TITLES: Final[dict[Mode, str]] = {
    "full": "Back soon",
    "read-only": "Read-only for now",
    "uploads-off": "Uploads are paused",
}
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _sentence(state: MaintenanceState | None) -> str:
    if state is None:
        return CoreDown.default_message
    return state.message or f"{_OPENINGS[state.mode]}. Try again later."


def _line(state: MaintenanceState, now: float) -> str:
    """The same for programs: all that their user sees is this one line, without a page around it."""
    said = " ".join(state.message.split())
    said = f"{_OPENINGS[state.mode]}: {said}" if said else f"{_OPENINGS[state.mode]}."
    said += "" if said.endswith((".", "!", "?")) else "."
    if state.until is None or state.until <= now:
        return said if state.message else f"{said} Try again later."
    end = datetime.fromtimestamp(state.until, UTC)
    return f"{said} It is expected back on {end.day} {end:%B %Y} at {end:%H:%M} UTC."


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
