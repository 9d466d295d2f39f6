"""Owns the TLS listener's context: where its certificate comes from, its change under running connections.

The listener keeps one ``LiveContext`` for good. Each new connection gets the context that is current when its
handshake begins, so a new certificate, new ticket keys or a new policy need no new listener and cut nobody.
Import this module only where TLS is on: it loads cryptography.
"""

import asyncio
import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Protocol, Self
from urllib.parse import urlsplit

from cryptography import x509

from gateway.contract_certificate import CERTIFICATE_WARN_DAYS
from gateway.errors import Problem, SettingsError
from gateway.net.certificate import (
    CertificateFacts,
    CertificateRefused,
    Pair,
    chain_pem,
    describe,
    parse_certificates,
    read_file,
    read_pair,
)
from gateway.net.dev_ca import canonical_name, ensure_leaf, self_signed
from gateway.net.handshake import ServerHandshake
from gateway.settings import Settings

POLL_S: Final = 2.0
# Ticket keys live as long as their context; a day-old key would let its thief read a day of resumed TLS 1.2.
REFRESH_AFTER: Final = timedelta(hours=12)

# Mozilla's "intermediate" without its DHE suites (no dhparam to care for); TLS 1.3 suites are OpenSSL's own.
INTERMEDIATE_CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)

_LOG: Final = logging.getLogger("gateway.tls")

type Profile = Literal["intermediate", "modern"]
type Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How handshakes are made, whatever the certificate. ``client_ca`` is PEM; empty = none asked for."""

    profile: Profile = "intermediate"
    alpn: tuple[str, ...] = ("http/1.1",)
    strict_sni: bool = False
    client_ca: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where pairs come from: how to get one, the files whose change means a new one, the setting to blame.

    ``roots`` is a file of CAs that clients are told to trust, beside those of the system. ``stand_in`` makes a
    pair for the time until the first real one can be loaded.
    """

    load: Callable[[datetime], Pair]
    files: tuple[Path, ...]
    setting: dict[str, str]
    roots: Path | None = None
    stand_in: Callable[[datetime], Pair] | None = None


class OpenChallenges(Protocol):
    """The TLS-ALPN-01 challenges that await a validator."""

    def any_tls(self) -> bool:
        """Whether there is one; asked for each new connection."""

    def tls_context(self, name: str) -> ssl.SSLContext | None:
        """The context that answers the challenge for a name."""


class LiveContext(ssl.SSLContext):
    """A context that stands for whichever context is current. Give it to ``create_server`` once."""

    current: ssl.SSLContext
    challenges: OpenChallenges | None = None

    def __new__(cls, current: ssl.SSLContext) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context.current = current
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """The TLS state of a new connection, by the current context (asyncio and uvloop call this)."""
        tls = self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(tls, ServerHandshake):
            challenges = self.challenges
            is_open = challenges is not None and challenges.any_tls()
            tls.attach(
                incoming,
                outgoing,
                challenge=challenges.tls_context if challenges is not None and is_open else None,
            )
        return tls


class CertificateSource:
    """The pair in use, its context, and the ways they change. Reload from one thread at a time.

    ``stands_in``: the pair is a self-signed one, until the first real one can be loaded.
    """

    def __init__(
        self,
        origin: Origin,
        read_policy: Callable[[], Policy],
        *,
        policy_files: tuple[Path, ...] = (),
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """``policy_files``: those whose change means that the policy is read again. Raises: CertificateRefused."""
        self._origin = origin
        self._read_policy = read_policy
        self._policy = read_policy()
        self._now = now or _utc_now
        self._files = (*origin.files, *policy_files)
        self._stamp = self._seen = _stamp(self._files)
        self.stands_in = origin.stand_in is not None
        self._lock = threading.Lock()  # SIGHUP and the watch may ask for a reload at once
        self.pair, self.stands_in = self._load()
        self._refreshed = self._now()
        self._warned: datetime | None = None
        self.last_error = ""
        self.context = LiveContext(make_context(self.pair, self._policy))

    @property
    def facts(self) -> CertificateFacts:
        """The facts about the certificate in use."""
        roots: tuple[x509.Certificate, ...] = ()
        if self._origin.roots is not None:
            roots = parse_certificates(read_file(self._origin.roots, "certificate"), str(self._origin.roots))
        return describe(self.pair.chain, key_matches=True, roots=roots, now=self._now())

    @property
    def expires_at(self) -> float:
        """When the certificate in use expires, in seconds since the epoch (for the metric)."""
        return self.pair.leaf.not_valid_after_utc.timestamp()

    def follow(self, origin: Origin) -> None:
        """From the next reload on, pairs come from there."""
        self._files = (*origin.files, *self._files[len(self._origin.files) :])
        self._origin = origin

    def reload(self) -> str:
        """Take up the pair that is there now; new handshakes use it. Returns "", or why the old one stays."""
        with self._lock:
            return self._reload()

    def _reload(self) -> str:
        stamp = _stamp(self._files)
        self._refreshed = self._now()
        self._stamp = self._seen = stamp
        try:
            (pair, stands_in), policy = self._load(), self._read_policy()
            context = make_context(pair, policy)
        except CertificateRefused as exc:
            self.last_error = exc.sentence
            # The old pair stays, but its ticket keys have had their time.
            self.context.current = make_context(self.pair, self._policy)
            _LOG.error("new certificate refused, the old one stays in use: %s", exc.sentence)
            return exc.sentence
        if pair.leaf != self.pair.leaf:
            _LOG.info(
                "certificate in use: %s, until %s",
                ", ".join(pair.names),
                pair.leaf.not_valid_after_utc.isoformat(),
            )
        self.pair, self._policy, self.last_error = pair, policy, ""
        self.context.current = context
        self.stands_in = stands_in  # last: whoever is let in by it sees the new certificate
        return ""

    def _load(self) -> tuple[Pair, bool]:
        try:
            pair = self._origin.load(self._now())
        except CertificateRefused as exc:
            if self._origin.stand_in is None or not self.stands_in:
                raise
            _LOG.warning("a self-signed certificate stands in: %s", exc.sentence)
            return self._origin.stand_in(self._now()), True
        return pair, False

    def answer_challenges(self, challenges: OpenChallenges) -> None:
        """Present the certificates of TLS-ALPN-01 challenges to validators from now on."""
        self.context.challenges = challenges

    def poll(self) -> bool:
        """Reload when files changed and have settled, or when it is time; True when it reloaded.

        A pair in two files changes in two steps: only what stayed the same for one poll is looked at.
        """
        stamp = _stamp(self._files)
        settled, self._seen = stamp == self._seen, stamp
        self._warn_of_expiry()
        if (settled and stamp != self._stamp) or self._now() - self._refreshed >= REFRESH_AFTER:
            self.reload()
            return True
        return False

    async def watch(self, interval_s: float = POLL_S) -> None:
        """Poll for ever. Every worker runs this, so that all take up a new certificate by themselves."""
        while True:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(self.poll)

    def _warn_of_expiry(self) -> None:
        now = self._now()
        left = self.pair.leaf.not_valid_after_utc - now
        is_told = self._warned is not None and now - self._warned < timedelta(days=1)
        if is_told or left > timedelta(days=CERTIFICATE_WARN_DAYS):
            return
        self._warned = now
        _LOG.warning(
            "the certificate for %s expires in %.1f days, on %s%s",
            ", ".join(self.pair.names),
            left / timedelta(days=1),
            self.pair.leaf.not_valid_after_utc.isoformat(),
            f"; last error: {self.last_error}" if self.last_error else "",
        )


def open_source(settings: Settings, *, now: Callable[[], datetime] | None = None) -> CertificateSource | None:
    """The certificate source that the settings ask for; None when TLS is off.

    Raises: SettingsError.
    """
    if settings.tls.mode == "off":
        return None
    origin, client_ca = origin_of(settings), settings.tls.client_ca
    try:
        return CertificateSource(
            origin,
            lambda: policy_of(settings),
            policy_files=() if client_ca is None else (client_ca,),
            now=now,
        )
    except ClientCaRefused as exc:
        raise SettingsError((Problem(where="tls.client_ca", what=exc.sentence),)) from exc
    except CertificateRefused as exc:
        raise SettingsError((Problem(where=origin.setting[exc.half], what=exc.sentence),)) from exc


class ClientCaRefused(CertificateRefused):
    """The CA of the clients' certificates cannot be used."""


def policy_of(settings: Settings) -> Policy:
    """The handshake policy of the settings.

    Raises: ClientCaRefused.
    """
    client_ca, path = b"", settings.tls.client_ca
    if path is not None:
        try:
            client_ca = chain_pem(parse_certificates(read_file(path, "certificate"), str(path)))
        except CertificateRefused as exc:
            raise ClientCaRefused(exc.half, exc.sentence) from exc
    return Policy(
        profile=settings.tls.profile,
        alpn=("h2", "http/1.1") if settings.server.http2 else ("http/1.1",),
        strict_sni=settings.tls.strict_sni,
        client_ca=client_ca,
    )


def origin_of(settings: Settings) -> Origin:
    """Where the settings say that pairs come from."""
    tls = settings.tls
    if tls.mode == "files" and tls.certificate and tls.key:
        certificate, key = tls.certificate, tls.key
        return Origin(
            load=lambda now: read_pair(certificate, key, now=now),
            files=(certificate, key),
            setting={"certificate": "tls.certificate", "key": "tls.key"},
        )
    names = host_names(settings)
    if tls.mode == "acme":
        live = live_pair_path(settings.data_dir)
        return Origin(
            load=lambda now: read_pair(live, live, now=now),
            stand_in=lambda now: self_signed((*names, *tls.acme_names), now=now),
            files=(live,),
            setting={"certificate": "tls.mode", "key": "tls.mode"},
            roots=tls.acme_ca_file,  # a private authority's own web server mostly has a certificate of its own
        )
    folder = dev_folder(settings.data_dir)
    return Origin(
        load=lambda now: ensure_leaf(folder, names, now=now),
        files=(folder / "leaf.crt", folder / "leaf.key", folder / "ca.crt"),
        setting={"certificate": "tls.mode", "key": "tls.mode"},
        roots=folder / "ca.crt",
    )


def host_names(settings: Settings) -> tuple[str, ...]:
    """The names users may type: the host of the public URL and ``server.server_names``."""
    host = urlsplit(settings.public_url).hostname or ""
    return tuple(dict.fromkeys(name for name in (host, *settings.server.server_names) if name))


def dev_folder(data_dir: Path) -> Path:
    """Folder of the dev CA and leaf."""
    return data_dir / "tls"


def live_pair_path(data_dir: Path) -> Path:
    """The ACME pair in use: key and chain in one file, so that it changes in one step."""
    return data_dir / "acme" / "live.pem"


def make_context(pair: Pair, policy: Policy) -> ssl.SSLContext:
    """A server context for one pair, with ticket keys of its own.

    Raises: CertificateRefused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerHandshake
    modern = policy.profile == "modern"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if modern else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(INTERMEDIATE_CIPHERS)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(policy.alpn))
    context.num_tickets = 1  # the second costs 20 of 360 µs, and few clients ever come back with it
    if policy.strict_sni:
        context.sni_callback = _strict(pair.names)
    try:
        load_pem(context, pair.pem)
        if policy.client_ca:
            context.load_verify_locations(cadata=policy.client_ca.decode("ascii"))
            context.verify_mode = ssl.CERT_OPTIONAL  # without one: a visitor, for whom some paths are closed
    except ssl.SSLError as exc:
        raise CertificateRefused(
            "certificate", f"OpenSSL refuses the certificate or its key: {exc.reason}."
        ) from exc
    return context


def load_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Give a context the key and chain in ``pem``. ``ssl`` reads files only; this one is on no disk."""
    with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def name_is_covered(name: str, names: tuple[str, ...]) -> bool:
    """Whether a certificate for ``names`` covers the host (RFC 6125: a wildcard stands for one label)."""
    bare = canonical_name(name)
    parent = bare.partition(".")[2]
    return bare in names or (bool(parent) and f"*.{parent}" in names)


def _strict(names: tuple[str, ...]) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]:
    def refuse_strangers(_tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name is not None and name_is_covered(name, names):
            return None
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    return refuse_strangers


def _stamp(files: tuple[Path, ...]) -> Stamp:
    return tuple(_file_stamp(file) for file in files)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def _utc_now() -> datetime:
    return datetime.now(UTC)
