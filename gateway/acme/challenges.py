"""Owns the answers to open ACME challenges: small files in a shared folder, so that every worker can give them."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.net.files import make_folder, write_atomically
from gateway.net.handshake import ACME_PROTOCOL

PATH_PREFIX: Final = "/.well-known/acme-challenge/"

# base64url of at least 128 bits (RFC 8555 8.3); nothing that could leave the folder.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{8,256}")
_NAME: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


class Challenges:
    """The open challenges of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._http = data_dir / "acme" / "challenges"
        self._alpn = data_dir / "acme" / "tls-challenges"  # holds keys: never under what http hands out

    def http_answer(self, token: str) -> bytes | None:
        """The body for ``GET /.well-known/acme-challenge/TOKEN``; None = 404."""
        if not _TOKEN.fullmatch(token):
            return None
        return _read(self._http / token)

    def tls_context(self, name: str) -> ssl.SSLContext | None:
        """The context that proves to a validator that we hold the name (RFC 8737); None if nobody asked for it."""
        if not _NAME.fullmatch(name):
            return None
        path = self._alpn / f"{name}.pem"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols([ACME_PROTOCOL])
        try:
            context.load_cert_chain(path)
        except OSError:  # ssl.SSLError is one; the challenge is over, or was never open
            return None
        return context

    def any_tls(self) -> bool:
        """Whether a TLS-ALPN-01 challenge is open; asked once for each new connection."""
        try:
            return any(self._alpn.iterdir())
        except OSError:
            return False

    @contextmanager
    def opened_http(self, answers: dict[str, bytes]) -> Iterator[None]:
        """The answers by token can be fetched as long as the block lasts."""
        with _published(self._http, answers, 0o600):
            yield

    @contextmanager
    def opened_tls(self, pairs: dict[str, bytes]) -> Iterator[None]:
        """The pairs (PEM, key and certificate) by name are presented to validators as long as the block lasts."""
        with _published(self._alpn, {f"{name}.pem": pem for name, pem in pairs.items()}, 0o600):
            yield


@contextmanager
def _published(folder: Path, contents: dict[str, bytes], mode: int) -> Iterator[None]:
    make_folder(folder)
    for leftover in folder.iterdir():  # of a turn that was killed; only one turn runs at a time
        leftover.unlink(missing_ok=True)
    try:
        for name, content in contents.items():
            write_atomically(folder / name, content, mode)
        yield
    finally:
        for name in contents:
            (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
