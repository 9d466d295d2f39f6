"""Owns how pairs come in from certbot and go out to other programs, under the names that those look for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.net.certificate import CertificateRefused, Pair, chain_pem, key_pem, read_pair
from gateway.net.files import make_folder, write_atomically

# Style → names of certificate chain and key.
STYLES: Final[Mapping[str, tuple[str, str]]] = {
    "minio": ("public.crt", "private.key"),
    "nginx": ("chained.pem", "domain.key"),
    "certbot": ("fullchain.pem", "privkey.pem"),
}
USUAL_STYLES: Final = ("minio", "nginx")  # what the old stack's two programs look for


def find_pair(path: Path, name: str = "") -> Pair:
    """The pair in a folder under any of the known names, or in the folder of one site below certbot's ``live``.

    Raises: CertificateRefused.
    """
    for folder in (path, path / name, path / "live" / name):
        for certificate, key in STYLES.values():
            if (folder / certificate).exists() and (folder / key).exists():
                return read_pair(folder / certificate, folder / key)
    sites = sorted(
        found.parent.name for found in (*path.glob("*/fullchain.pem"), *path.glob("live/*/fullchain.pem"))
    )
    if len(sites) == 1 and sites[0] != name:
        return find_pair(path, sites[0])
    if sites:
        raise CertificateRefused(
            "certificate", f"{path} holds several certificates; name one of them: {', '.join(sites)}."
        )
    known = ", ".join(f"{certificate} + {key}" for certificate, key in STYLES.values())
    raise CertificateRefused("certificate", f"{path} holds none of the pairs {known}.")


def write_pair(pair: Pair, folder: Path, style: str) -> tuple[Path, Path]:
    """Write the pair into the folder; the key is for its owner alone. Returns both paths.

    Raises: OSError.
    """
    certificate, key = (folder / name for name in STYLES[style])
    make_folder(folder, 0o755)
    write_atomically(key, key_pem(pair.key), 0o600)
    write_atomically(certificate, chain_pem(pair.chain), 0o644)
    return certificate, key
