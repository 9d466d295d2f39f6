"""Owns our account at a certificate authority: its key and its URL, one file for each authority."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

from gateway.net.certificate import CertificateRefused, key_pem, parse_key
from gateway.net.files import make_folder, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """``uri`` is "" until the authority has given one."""

    directory: str
    key: ec.EllipticCurvePrivateKey
    uri: str = ""

    @classmethod
    def load(cls, folder: Path, directory: str) -> Self:
        """The account at the authority; a new key, kept at once, when there is none."""
        try:
            raw = json.loads(_path(folder, directory).read_bytes())
            key = parse_key(str(raw["key"]).encode(), "the account key")
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return cls(directory=directory, key=key, uri=str(raw["uri"]))
        except (OSError, ValueError, KeyError, TypeError, CertificateRefused):
            pass  # missing or damaged: an authority gives a new account for a new key
        account = cls(directory=directory, key=ec.generate_private_key(ec.SECP256R1()))
        account.keep_uri(folder, "")
        return account

    def keep_uri(self, folder: Path, uri: str) -> None:
        """Remember the account's URL."""
        path = _path(folder, self.directory)
        make_folder(path.parent)
        text = json.dumps(
            {"directory": self.directory, "uri": uri, "key": key_pem(self.key).decode()}, indent=1
        )
        write_atomically(path, text.encode(), 0o600)

    def forget_uri(self, folder: Path) -> None:
        """Sign up again next time, with the same key."""
        self.keep_uri(folder, "")


def _path(folder: Path, directory: str) -> Path:
    return folder / "accounts" / f"{hashlib.sha256(directory.encode()).hexdigest()[:16]}.json"
