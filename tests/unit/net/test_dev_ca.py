"""The local CA: made once, kept for good; the leaf follows the names and the calendar."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.net.certificate import CertificateRefused, issued_by
from gateway.net.dev_ca import (
    LEAF_LIFE,
    RENEW_BEFORE,
    canonical_name,
    ensure_leaf,
    self_signed,
)


def ca_of(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())


def test_the_first_start_makes_a_ca_and_a_leaf_for_the_local_names(tmp_path: Path) -> None:
    pair = ensure_leaf(tmp_path / "tls", ["Registry.Example.ORG.", "192.168.1.7", "[2001:db8::1]"])
    assert pair.names == (
        "localhost",
        "registry.example.org",
        "127.0.0.1",
        "::1",
        "192.168.1.7",
        "2001:db8::1",
    )
    assert issued_by(pair.leaf, ca_of(tmp_path / "tls"))


def test_keys_are_private_and_the_ca_certificate_is_not(tmp_path: Path) -> None:
    ensure_leaf(tmp_path, [])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.suffix}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "leaf.crt": 0o644, "leaf.key": 0o600}


def test_the_ca_says_what_clients_check(tmp_path: Path) -> None:
    pair = ensure_leaf(tmp_path, [])
    ca = ca_of(tmp_path)
    ca_has, leaf_has = ca.extensions, pair.leaf.extensions
    constraints = ca_has.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = ca_has.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    identifier = ca_has.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = leaf_has.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == identifier.key_identifier
    assert leaf_has.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert leaf_has.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert list(leaf_has.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    first = ensure_leaf(tmp_path, ["a.example"])
    ca = ca_of(tmp_path)
    assert ensure_leaf(tmp_path, ["a.example"]).leaf == first.leaf
    assert ca_of(tmp_path) == ca


def test_other_names_or_a_near_end_make_a_new_leaf_of_the_same_ca(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    first = ensure_leaf(tmp_path, ["a.example"], now=now)
    ca = ca_of(tmp_path)
    assert ensure_leaf(tmp_path, ["a.example"], now=now + LEAF_LIFE - RENEW_BEFORE).leaf == first.leaf
    late = ensure_leaf(tmp_path, ["a.example"], now=now + LEAF_LIFE - RENEW_BEFORE + timedelta(seconds=1))
    assert late.leaf != first.leaf
    other = ensure_leaf(tmp_path, ["b.example"], now=now)
    assert "b.example" in other.names
    assert ca_of(tmp_path) == ca
    assert issued_by(other.leaf, ca)


def test_damaged_or_missing_files_are_made_anew(tmp_path: Path) -> None:
    first = ensure_leaf(tmp_path, [])
    (tmp_path / "leaf.key").write_bytes(b"torn")
    second = ensure_leaf(tmp_path, [])
    assert second.leaf != first.leaf
    (tmp_path / "ca.crt").unlink()
    third = ensure_leaf(tmp_path, [])
    assert issued_by(third.leaf, ca_of(tmp_path))


def test_a_leaf_whose_ca_key_is_gone_is_still_used(tmp_path: Path) -> None:
    first = ensure_leaf(tmp_path, [])
    (tmp_path / "ca.key").unlink()
    assert ensure_leaf(tmp_path, []).leaf == first.leaf


def test_many_starts_at_once_agree_on_one_ca(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(lambda _: ensure_leaf(tmp_path / "tls", []), range(8)))
    assert len({pair.leaf.fingerprint(hashes.SHA256()) for pair in pairs}) == 1


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CertificateRefused, match="cannot be made in"):
        ensure_leaf(tmp_path / "file" / "tls", [])


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        ("EXAMPLE.org.", "example.org"),
        ("[::1]", "::1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("0:0:0:0:0:0:0:1", "::1"),
    ],
)
def test_names_are_spelt_as_certificates_do(given: str, spelt: str) -> None:
    assert canonical_name(given) == spelt


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="cannot be a host name"):
        canonical_name("ü" * 70 + ".example")


def test_the_stand_in_certificate_covers_the_names_and_signs_itself() -> None:
    pair = self_signed(["registry.example.org"])
    assert "registry.example.org" in pair.names
    assert issued_by(pair.leaf, pair.leaf)
