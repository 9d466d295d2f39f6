"""Owns the local certificate authority of ``tls.mode = "dev"``: one CA for good, a leaf renewed as needed."""

import ipaddress
import secrets
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.net.certificate import (
    CertificateRefused,
    Pair,
    PrivateKey,
    chain_pem,
    issued_by,
    key_pem,
    make_pair,
    read_pair,
)
from gateway.net.files import locked, make_folder, write_atomically

CA_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(
    days=397
)  # Apple's clients accept at most 398 days, also of private CAs with a profile
RENEW_BEFORE: Final = timedelta(days=30)
CLOCK_SLACK: Final = timedelta(hours=1)  # a virtual machine may wake with its clock a little behind
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def ensure_leaf(folder: Path, names: Sequence[str], *, now: datetime | None = None) -> Pair:
    """The dev pair for the local names and ``names``, made or renewed where it is missing or no longer fits.

    Safe between processes: all of it happens under a lock on the folder.
    Raises: CertificateRefused.
    """
    moment = now or datetime.now(UTC)
    wanted = all_names(names)
    try:
        make_folder(folder, 0o755)
        with locked(folder):
            pair = _usable_leaf(folder, wanted, moment)
            if pair is None:
                ca = _usable_ca(folder, moment) or _make_ca(folder, moment)
                _make_leaf(folder, ca, wanted, moment)
                pair = read_pair(folder / "leaf.crt", folder / "leaf.key", now=moment)
    except OSError as exc:
        raise CertificateRefused(
            "certificate", f"the dev certificate cannot be made in {folder}: {exc.strerror}."
        ) from exc
    return pair


def all_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the dev leaf, each once, in a fixed order and the spelling a certificate uses.

    Raises: CertificateRefused.
    """
    return tuple(dict.fromkeys((*LOCAL_NAMES, *sorted(canonical_name(name) for name in names if name))))


def canonical_name(name: str) -> str:
    """A host name or address as certificates spell it: lower case, IDNA, no brackets, no last dot.

    Raises: CertificateRefused.
    """
    bare = name.strip().strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        return bare if bare.isascii() else bare.encode("idna").decode()
    except UnicodeError as exc:
        raise CertificateRefused("certificate", f"'{name}' cannot be a host name: {exc}.") from exc


def self_signed(names: Sequence[str], *, now: datetime | None = None) -> Pair:
    """A pair for the time until a real certificate is there. Nothing is written."""
    moment = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("Waiting for the first certificate")
    builder = _builder(subject, subject, key, moment, timedelta(days=30))
    leaf = _as_leaf(builder, all_names(names), key).sign(key, hashes.SHA256())
    return make_pair(chain_pem((leaf,)), key_pem(key), now=moment)


def _usable_leaf(folder: Path, wanted: Sequence[str], now: datetime) -> Pair | None:
    try:
        pair = read_pair(folder / "leaf.crt", folder / "leaf.key", now=now)
        ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    except (
        CertificateRefused,
        OSError,
        ValueError,
    ):  # missing, half written by a crash, or spoilt: made anew
        return None
    fresh = pair.leaf.not_valid_after_utc - now >= RENEW_BEFORE
    return pair if fresh and set(pair.names) == set(wanted) and issued_by(pair.leaf, ca) else None


def _usable_ca(folder: Path, now: datetime) -> tuple[x509.Certificate, PrivateKey] | None:
    try:
        pair = read_pair(folder / "ca.crt", folder / "ca.key", now=now)
    except CertificateRefused:
        return None
    outlives = pair.leaf.not_valid_after_utc - now >= RENEW_BEFORE
    return (pair.leaf, pair.key) if outlives else None


def _make_ca(folder: Path, now: datetime) -> tuple[x509.Certificate, PrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Host and a random part in the name: a browser that trusts two such CAs must tell them apart.
    subject = _name(f"sregistry-gateway dev CA {socket.gethostname()[:24]} {secrets.token_hex(3)}")
    builder = _builder(subject, subject, key, now, CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    ca = builder.sign(key, hashes.SHA256())
    write_atomically(folder / "ca.key", key_pem(key), 0o600)
    write_atomically(folder / "ca.crt", chain_pem((ca,)), 0o644)
    return ca, key


def _make_leaf(
    folder: Path, ca: tuple[x509.Certificate, PrivateKey], names: Sequence[str], now: datetime
) -> None:
    issuer, issuer_key = ca
    key = ec.generate_private_key(ec.SECP256R1())
    life = min(LEAF_LIFE, issuer.not_valid_after_utc - now)
    builder = _builder(_name("sregistry-gateway dev"), issuer.subject, key, now, life)
    digested = isinstance(issuer_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    leaf = _as_leaf(builder, names, issuer_key).sign(issuer_key, hashes.SHA256() if digested else None)
    write_atomically(folder / "leaf.key", key_pem(key), 0o600)
    write_atomically(folder / "leaf.crt", chain_pem((leaf,)), 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - CLOCK_SLACK).not_valid_after(now + life)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _as_leaf(
    builder: x509.CertificateBuilder, names: Sequence[str], issuer_key: PrivateKey
) -> x509.CertificateBuilder:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sregistry-gateway"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
