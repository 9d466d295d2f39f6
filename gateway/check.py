"""Owns ``gateway check``: everything that must be right before users come, each with one remedy."""

import asyncio
import errno
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.check_store import inspect_direct_downloads, inspect_route_stores, inspect_store
from gateway.contract import COMMITS_PATH, load_secret
from gateway.core_health import call_status, probe_of
from gateway.findings import Finding, Level, fail, ok, warn
from gateway.maintenance import MaintenanceSwitch
from gateway.maintenance_page import page_file
from gateway.net.server import listener_addresses, setting_of
from gateway.settings import Settings
from gateway.settings_source import LoadedSettings

LOW_FREE_BYTES: Final = 5 << 30  # about one large image: the next upload may not fit
SOON_DAYS: Final = 14.0
_THIRD_PARTY: Final = re.compile(
    r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""", re.I
)
_OLDEST_CLOCK_S: Final = 1_735_689_600  # 2025-01-01: this program is younger
_ANSWER_S: Final = 3.0
_BAD_REQUEST: Final = 400


def inspect(loaded: LoadedSettings) -> list[Finding]:
    """Look at everything. Never raises for what it finds; a few seconds at most."""
    settings = loaded.settings
    where = f"from {loaded.file}" if loaded.file else "no file, only defaults, environment and flags"
    findings = [Finding(level=Level.ok, subject="settings", what=f"valid ({where})")]
    inspections: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        inspect_clock,
        inspect_data_folder,
        inspect_public_url,
        inspect_certificate_of,
        inspect_ports,
        inspect_store,
        inspect_route_stores,
        inspect_direct_downloads,
        inspect_core,
        inspect_maintenance,
    )
    for inspection in inspections:
        findings += inspection(settings)
    return findings


def render(findings: list[Finding]) -> str:
    """The table."""
    width = max(len(finding.subject) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level:<4}  {finding.subject:<{width}}  {finding.what}")
        if finding.remedy:
            lines.append(f"{'':<4}  {'':<{width}}  → {finding.remedy}")
    worst = sum(finding.level is Level.fail for finding in findings)
    lines.append(f"{worst} problem(s)" if worst else "all that was looked at can work")
    return "\n".join(lines)


def inspect_clock(settings: Settings) -> Iterator[Finding]:
    """Certificates, tokens and signed links all depend on it."""
    now = time.time()
    if now < _OLDEST_CLOCK_S:
        yield fail(
            "clock", f"says {time.ctime(now)}", "set the clock and keep it with NTP (systemd-timesyncd)"
        )
        return
    try:
        ahead = settings.data_dir.stat().st_mtime - now
    except OSError:
        ahead = 0.0
    if ahead > 60:  # noqa: PLR2004 - a minute: more than file systems and machines differ
        yield warn(
            "clock", f"{ahead:.0f} s behind the data folder", "keep the clock with NTP (systemd-timesyncd)"
        )
    else:
        yield ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def inspect_data_folder(settings: Settings) -> Iterator[Finding]:
    """Ours, writable, with room."""
    folder = settings.data_dir
    if not folder.exists():
        yield warn("data folder", f"{folder.absolute()} is not there yet", "it is made by 'gateway serve'")
        return
    probe = folder / f".check-{secrets.token_hex(8)}"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as exc:
        yield fail(
            "data folder",
            f"{folder.absolute()}: {exc.strerror}",
            f"chown it to the user that runs the gateway (this is uid {os.geteuid()})",
        )
        return
    free = shutil.disk_usage(folder).free
    text = f"{folder.absolute()}, {free / 1e9:.1f} GB free"
    if folder.stat().st_mode & 0o007:
        yield warn("data folder", f"{text}, open to every user", f"chmod o-rwx {folder.absolute()}")
    elif free < LOW_FREE_BYTES:
        yield warn(
            "data folder", text, "make room: uploads get 507 when storage.disk.reserve_bytes is reached"
        )
    else:
        yield ok("data folder", text)


def inspect_public_url(settings: Settings) -> Iterator[Finding]:
    """It is in every link that clients are given."""
    url = settings.public_url
    parts = urlsplit(url)
    remedy = "set server.public_url to what users type, like https://registry.example.org"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        yield fail("public URL", f"{url!r} is not a URL", remedy)
    elif parts.path or parts.query or parts.fragment:
        yield fail(
            "public URL", f"{url} has a path", "a registry has a host name of its own: remove the path"
        )
    elif parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        yield warn("public URL", f"{url}: tokens travel unencrypted", "use https, or a TLS proxy in front")
    elif parts.hostname == "localhost":
        yield warn("public URL", f"{url} works on this machine only", remedy)
    else:
        yield from _resolved(url, parts.hostname)


def _resolved(url: str, host: str) -> Iterator[Finding]:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        yield warn("public URL", f"{url}: {host} has no address here", "make a DNS record for it")
    else:
        yield ok("public URL", f"{url} ({', '.join(sorted(map(str, addresses)))})")


def inspect_certificate_of(settings: Settings) -> Iterator[Finding]:
    """It fits its key, its names and the date."""
    from gateway.net.certificate import CertificateRefused, inspect_certificate  # noqa: PLC0415 - cryptography
    from gateway.net.tls import host_names, name_is_covered, origin_of  # noqa: PLC0415

    if settings.tls.mode == "off" or not settings.server.https:
        yield ok("certificate", "TLS is off")
        return
    origin = origin_of(settings)
    path, key = origin.files[0], origin.files[min(1, len(origin.files) - 1)]
    if settings.tls.mode != "files" and not path.exists():
        yield ok("certificate", f"tls.mode = {settings.tls.mode}: made at the first start")
        return
    try:
        facts = inspect_certificate(path, key, roots=origin.roots)
    except CertificateRefused as exc:
        yield fail("certificate", exc.sentence, f"see {origin.setting[exc.half]}")
        return
    missing = [name for name in host_names(settings) if not name_is_covered(name, facts.names)]
    text = f"{', '.join(facts.names)}; {facts.key_type}; {facts.days_left:.0f} days left"
    if facts.key_matches is False:
        yield fail(
            "certificate",
            f"{path} and {key} do not belong together",
            "give tls.key the key of this certificate",
        )
    elif facts.days_left <= 0:
        yield fail(
            "certificate", f"expired on {facts.not_after:%Y-%m-%d}", "renew it, or use tls.mode = 'acme'"
        )
    elif missing:
        yield fail("certificate", f"{text}; not for {', '.join(missing)}", "get one that names them")
    elif not facts.chain_complete:
        yield warn(
            "certificate", f"{text}; the chain ends early", "append the issuer's certificates to the file"
        )
    elif facts.days_left < SOON_DAYS and settings.tls.mode == "files":
        yield warn("certificate", text, "renew it, or use tls.mode = 'acme'")
    else:
        yield ok("certificate", text)


def inspect_ports(settings: Settings) -> Iterator[Finding]:
    """Each listener is free, or it is us who listen there."""
    for name, address in listener_addresses(settings).items():
        yield _inspect_port(name, address)


def _inspect_port(name: str, address: str) -> Finding:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, int(port)))
        except (OSError, OverflowError) as exc:
            code = getattr(exc, "errno", None)
            if code == errno.EADDRINUSE and is_ours(name, host, int(port)):
                return ok(f"{name} port", f"{address}: the gateway serves there")
            return fail(f"{name} port", f"{address}: {exc}", _port_remedy(name, code))
    return ok(f"{name} port", f"{address} is free")


def _port_remedy(name: str, code: int | None) -> str:
    match code:
        case errno.EADDRINUSE:
            return f"stop what listens there (ss -ltnp), or set {setting_of(name)}"
        case errno.EACCES:
            return (
                "ports below 1024 need CAP_NET_BIND_SERVICE: use conf/systemd, or setcap on the interpreter"
            )
        case _:
            return f"correct {setting_of(name)}"


def is_ours(name: str, host: str, port: int) -> bool:
    """Whether a gateway answers there. The certificate is not judged: who listens is the question."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared only
    try:
        connection: http.client.HTTPConnection
        if name.startswith("https"):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(host, port, timeout=_ANSWER_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
        with closing(connection):
            connection.request("GET", "/-/healthz")
            answer = connection.getresponse()
            return answer.status == http.client.OK and json.loads(answer.read(1000)).get("status") == "ok"
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return False


def inspect_core(settings: Settings) -> Iterator[Finding]:
    """Running, and sharing our secret."""
    own = not settings.core.url
    if own and not settings.core_socket.exists():
        yield ok("core", "not running; 'gateway serve' starts it")
        return
    url = settings.core.url or f"unix:{settings.core_socket.absolute()}"
    try:
        secret = load_secret(settings.secret_file)
        is_well, is_trusted = asyncio.run(_probe(url, secret))
    except FileNotFoundError:
        yield fail("core", f"{url}: no socket", "start it, or correct core.url")
    except (OSError, EOFError, ValueError, TimeoutError) as exc:
        if own and isinstance(exc, ConnectionRefusedError):
            yield ok("core", "not running; 'gateway serve' starts it")
        else:
            yield fail(
                "core", f"{url} does not answer: {exc!r}", "see the log of the core ('registry serve')"
            )
    else:
        if not is_well:
            yield fail("core", f"{url} answers, but not well", "see the log of the core ('registry serve')")
        elif not is_trusted:
            yield fail(
                "core",
                f"{url} does not accept our signature",
                "core.secret_file must hold the same secret on both sides, and their clocks must agree",
            )
        else:
            yield ok("core", f"{url} answers and shares our secret")


async def _probe(url: str, secret: bytes) -> tuple[bool, bool]:
    """Whether it is well, and whether it accepts our signature: an empty commit is then a bad one, not unknown."""
    async with asyncio.timeout(_ANSWER_S):
        is_well = await probe_of(url, secret)()
        return is_well, await call_status(url, secret, "POST", COMMITS_PATH, b"{}") == _BAD_REQUEST


def inspect_maintenance(settings: Settings) -> Iterator[Finding]:
    """The page can be shown without anybody's help, and nobody forgot the switch."""
    path = page_file(settings.maintenance.page)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        yield fail("maintenance page", f"{path}: {exc}", "correct maintenance.page")
        return
    if _THIRD_PARTY.search(text):
        yield warn(
            "maintenance page",
            f"{path} loads something from another host",
            "put styles, scripts and pictures into the page: when you need it, nothing else may be up",
        )
    else:
        yield ok("maintenance page", f"{_short(path)} is self-contained")
    if MaintenanceSwitch(settings.data_dir).current() is not None:
        yield warn("maintenance", "is on", "'gateway maintenance off' when you are done")


def _short(path: Path) -> str:
    return "the built-in page" if path == page_file(None) else str(path)
