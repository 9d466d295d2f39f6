"""Owns certificate chains for tests: an RSA root, intermediate and leaf, as a public CA hands them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True, kw_only=True)
class RsaChain:
    """PEM texts: ``chain`` is leaf and intermediate, ``key`` the leaf's in PKCS#1."""

    chain: bytes
    key: bytes
    leaf: bytes
    intermediate: bytes
    root: bytes


def rsa_chain(
    names: Sequence[str], *, not_after: datetime | None = None, not_before: datetime | None = None
) -> RsaChain:
    """A chain for the names; by default valid from yesterday for 90 days."""
    now = datetime.now(UTC)
    start, end = not_before or now - timedelta(days=1), not_after or now + timedelta(days=90)
    root_key, middle_key, leaf_key = (rsa.generate_private_key(65537, 2048) for _ in range(3))
    life = (start, end)
    root = _issue(("Test Root", root_key), ("Test Root", root_key), life)
    middle = _issue(("Test R3", middle_key), ("Test Root", root_key), life)
    leaf = _issue((names[0], leaf_key), ("Test R3", middle_key), life, names)
    pems = [c.public_bytes(serialization.Encoding.PEM) for c in (leaf, middle, root)]
    key = leaf_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return RsaChain(chain=pems[0] + pems[1], key=key, leaf=pems[0], intermediate=pems[1], root=pems[2])


def _issue(
    subject: tuple[str, rsa.RSAPrivateKey],
    issuer: tuple[str, rsa.RSAPrivateKey],
    life: tuple[datetime, datetime],
    names: Sequence[str] = (),
) -> x509.Certificate:
    (name, key), (issuer_name, issuer_key) = subject, issuer
    ca = not names
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(issuer_name))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(life[0]).not_valid_after(life[1])
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
