"""Owns what is known about a certificate: reading PEM as people leave it, pairing, its facts."""

import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

MAX_PEM_BYTES: Final = (
    1 << 20
)  # a chain is some kilobytes; a device or a log given by mistake is not read whole
RSA_LEAST_BITS: Final = 2048  # below this OpenSSL's security level 2 refuses the key, with a riddle

# One block, wherever it starts: `cat leaf.pem chain.pem` glues two lines if the first file lacks its newline.
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.+?)-----END \1-----", re.DOTALL)

type PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
type Half = Literal["certificate", "key"]


class CertificateRefused(Exception):
    """A certificate or key that cannot be used. ``half`` tells which, the sentence why and what to do."""

    def __init__(self, half: Half, sentence: str) -> None:
        self.half: Half = half
        self.sentence = sentence
        super().__init__(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What an administrator wants to know. ``key_matches`` is None when no key was looked at."""

    names: tuple[str, ...]
    issuer: str
    key_type: str
    serial: str
    not_before: datetime
    not_after: datetime
    days_left: float
    self_signed: bool
    chain_complete: bool
    key_matches: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate chain, leaf first, and the leaf's key. ``pem`` holds all of it as OpenSSL reads it."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    pem: bytes

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that is presented."""
        return self.chain[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names and addresses of the leaf."""
        return names_of(self.leaf)


def read_pair(certificate: Path, key: Path, *, now: datetime | None = None) -> Pair:
    """The pair in two files (which may be one and the same), tidied and proven usable now.

    Raises: CertificateRefused.
    """
    chain_text = read_file(certificate, "certificate")
    key_text = chain_text if key == certificate else read_file(key, "key")
    return make_pair(chain_text, key_text, certificate=str(certificate), key=str(key), now=now)


def make_pair(
    chain_text: bytes,
    key_text: bytes,
    *,
    certificate: str = "the certificate",
    key: str = "the key",
    now: datetime | None = None,
) -> Pair:
    """The pair in two texts. ``certificate`` and ``key`` name them in sentences.

    Raises: CertificateRefused.
    """
    found = parse_certificates(chain_text, certificate)
    private = parse_key(key_text, key)
    leaf = next((c for c in found if matches(c, private)), None)
    if leaf is None:
        raise CertificateRefused(
            "key",
            f"{key} is not the key of {certificate} (for {', '.join(names_of(found[0])) or 'no name'})."
            " Give the key that the certificate was issued for.",
        )
    _refuse_outdated(leaf, certificate, now or datetime.now(UTC))
    chain = order_chain(leaf, found)
    return Pair(chain=chain, key=private, pem=key_pem(private) + chain_pem(chain))


def read_file(path: Path, half: Half) -> bytes:
    """The bytes of a PEM file.

    Raises: CertificateRefused.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PEM_BYTES + 1)
    except PermissionError as exc:
        raise CertificateRefused(
            half, f"{path} may not be read by this user. Give the gateway's user the right to read it."
        ) from exc
    except OSError as exc:
        raise CertificateRefused(half, f"{path} cannot be read: {exc.strerror}.") from exc
    if len(text) > MAX_PEM_BYTES:
        raise CertificateRefused(half, f"{path} is larger than 1 MiB; that is no certificate or key file.")
    return text


def parse_certificates(text: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """Every certificate in the text, in its order.

    Raises: CertificateRefused.
    """
    try:
        found = tuple(
            x509.load_pem_x509_certificate(block)
            for label, block in pem_blocks(text)
            if label in {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}
        )
    except ValueError as exc:
        raise CertificateRefused("certificate", f"{name} holds a damaged certificate: {exc}.") from exc
    if found:
        return found
    if text[:1] == b"\x30":
        remedy = "It looks like DER: convert it with 'openssl x509 -inform der -out FILE'."
    else:
        remedy = "Give the file that certbot calls fullchain.pem and the old stack chained.pem."
    raise CertificateRefused("certificate", f"{name} holds no certificate in PEM form. {remedy}")


def parse_key(text: bytes, name: str) -> PrivateKey:
    """The first private key in the text.

    Raises: CertificateRefused.
    """
    block = next((block for label, block in pem_blocks(text) if label.endswith(b"PRIVATE KEY")), None)
    if block is None:
        raise CertificateRefused("key", f"{name} holds no private key in PEM form.")
    try:
        key = serialization.load_pem_private_key(block, None)
    except TypeError as exc:
        raise CertificateRefused(
            "key",
            f"{name} is locked with a passphrase, and nobody can type it when the server starts."
            " Unlock it with 'openssl pkey -in FILE -out NEW' and keep NEW readable for the gateway alone.",
        ) from exc
    except ValueError as exc:
        raise CertificateRefused("key", f"{name} holds a damaged private key: {exc}.") from exc
    if not isinstance(
        key,
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    ):
        raise CertificateRefused("key", f"{name} holds a key that TLS servers do not use. Use ECDSA or RSA.")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_LEAST_BITS:
        raise CertificateRefused(
            "key",
            f"{name} is an RSA key of {key.key_size} bits, which clients refuse. Use 2048 or more, or ECDSA.",
        )
    return key


def pem_blocks(text: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Label and clean text of every PEM block, whatever line ends, blanks and glued lines surround it."""
    for found in _BLOCK.finditer(text):
        lines = [line.strip() for line in found[2].replace(b"\r", b"\n").split(b"\n")]
        header = any(b":" in line for line in lines)  # the blank line after "Proc-Type:" means something
        body = b"\n".join(line for line in lines if line or header).strip(b"\n")
        yield found[1], b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (found[1], body, found[1])


def order_chain(leaf: x509.Certificate, found: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The leaf, then each issuer in turn as far as the certificates found lead; strangers are left out."""
    chain = [leaf]
    rest = [c for c in found if c != leaf]
    while issuer := next((c for c in rest if issued_by(chain[-1], c)), None):
        chain.append(issuer)
        rest.remove(issuer)
    return tuple(chain)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def matches(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Whether the key is the certificate's."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    except ValueError:  # a public key of a kind that cryptography does not know
        return False


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses a certificate is good for; clients ignore the common name."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = alternative.get_values_for_type(x509.IPAddress)
    return (*alternative.get_values_for_type(x509.DNSName), *(str(a) for a in addresses))


def issuer_of(certificate: x509.Certificate) -> str:
    """Who signed it, in a few words."""
    return _short_name(certificate.issuer)


def chain_pem(chain: Iterable[x509.Certificate]) -> bytes:
    """A chain as PEM, with every newline in its place."""
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain)


def key_pem(key: PrivateKey) -> bytes:
    """A key as unlocked PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def inspect_certificate(
    path: Path, key: Path | None = None, *, roots: Path | None = None, now: datetime | None = None
) -> CertificateFacts:
    """The facts about the certificate in a file, usable or not. ``roots``: CAs to trust beside the system's.

    Raises: CertificateRefused when there is no certificate to speak of, or the key cannot be read.
    """
    found = parse_certificates(read_file(path, "certificate"), str(path))
    private = parse_key(read_file(key, "key"), str(key)) if key is not None else None
    leaf = found[0]
    if private is not None:
        leaf = next((c for c in found if matches(c, private)), leaf)
    anchors = parse_certificates(read_file(roots, "certificate"), str(roots)) if roots is not None else ()
    return describe(
        order_chain(leaf, found),
        key_matches=None if private is None else matches(leaf, private),
        roots=anchors,
        now=now,
    )


def describe(
    chain: Sequence[x509.Certificate],
    *,
    key_matches: bool | None = None,
    roots: Sequence[x509.Certificate] = (),
    now: datetime | None = None,
) -> CertificateFacts:
    """The facts about an ordered chain."""
    leaf = chain[0]
    left: timedelta = leaf.not_valid_after_utc - (now or datetime.now(UTC))
    return CertificateFacts(
        names=names_of(leaf),
        issuer=issuer_of(leaf),
        key_type=_key_type(leaf),
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        days_left=round(left.total_seconds() / 86400, 2),
        self_signed=issued_by(leaf, leaf),
        chain_complete=chain_is_complete(chain, roots),
        key_matches=key_matches,
    )


def chain_is_complete(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate] = ()) -> bool:
    """Whether the chain reaches a root: its own last one, one of ``roots``, or one the system trusts."""
    top = chain[-1]
    if issued_by(top, top):
        return True
    return any(issued_by(top, root) for root in (*roots, *_system_roots(top.issuer)))


def _system_roots(name: x509.Name) -> list[x509.Certificate]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    wanted = name.public_bytes()
    # Old roots break rules that cryptography enforces; the name's bytes pick the few that need a full parse.
    ders = [der for der in context.get_ca_certs(binary_form=True) if wanted in der]
    return [x509.load_der_x509_certificate(der) for der in ders]


def _refuse_outdated(leaf: x509.Certificate, name: str, now: datetime) -> None:
    if leaf.not_valid_after_utc <= now:
        raise CertificateRefused(
            "certificate",
            f"{name} expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC. Renew it,"
            " or let the gateway do so: tls.mode = 'acme'.",
        )
    if leaf.not_valid_before_utc > now:
        raise CertificateRefused(
            "certificate",
            f"{name} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
            " Is this machine's clock right?",
        )


def _short_name(name: x509.Name) -> str:
    for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME):
        values = name.get_attributes_for_oid(oid)
        if values:
            return str(values[0].value)
    return name.rfc4514_string()


def _key_type(leaf: x509.Certificate) -> str:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")
