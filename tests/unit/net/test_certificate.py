"""PEM files as people leave them, and what is said about those that cannot be used."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

from gateway.net.certificate import (
    MAX_PEM_BYTES,
    CertificateRefused,
    inspect_certificate,
    make_pair,
    parse_certificates,
    parse_key,
    read_pair,
)
from gateway.net.dev_ca import ensure_leaf
from tests.support.certificates import RsaChain, rsa_chain


@pytest.fixture(scope="module")
def chain() -> RsaChain:
    return rsa_chain(["registry.example.org", "www.registry.example.org"])


def refusal(chain_text: bytes, key_text: bytes, now: datetime | None = None) -> tuple[str, str]:
    with pytest.raises(CertificateRefused) as caught:
        make_pair(chain_text, key_text, certificate="chained.pem", key="domain.key", now=now)
    return caught.value.half, caught.value.sentence


def test_the_old_stacks_files_work_as_they_are(chain: RsaChain, tmp_path: Path) -> None:
    (tmp_path / "chained.pem").write_bytes(chain.chain)
    (tmp_path / "domain.key").write_bytes(chain.key)
    pair = read_pair(tmp_path / "chained.pem", tmp_path / "domain.key")
    assert pair.names == ("registry.example.org", "www.registry.example.org")
    assert len(pair.chain) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.leaf.strip() + c.intermediate.strip(),
        lambda c: c.chain.replace(b"\n", b"\r\n"),
        lambda c: c.chain.replace(b"\n", b"\r"),
        lambda c: b"\xef\xbb\xbf" + c.chain,
        lambda c: c.chain.replace(b"\n", b" \n \n"),
        lambda c: b"subject=CN = x\n" + c.leaf + b"issuer=CN = y\n" + c.intermediate + b"trailing words",
        lambda c: c.intermediate + c.leaf,
        lambda c: c.key + c.chain,
        lambda c: c.leaf + c.leaf + c.intermediate,
    ],
    ids=[
        "glued",
        "crlf",
        "cr",
        "byte order mark",
        "blank lines",
        "text around",
        "wrong order",
        "key inside",
        "leaf twice",
    ],
)
def test_a_chain_is_understood_however_it_was_put_together(spoil: object, chain: RsaChain) -> None:
    assert callable(spoil)
    pair = make_pair(spoil(chain), chain.key.replace(b"\n", b"\r\n").strip())
    assert pair.leaf == parse_certificates(chain.leaf, "leaf")[0]
    assert pair.chain[1:] == parse_certificates(chain.intermediate, "intermediate")
    assert pair.pem.count(b"-----BEGIN CERTIFICATE-----\n") == 2


def test_strangers_in_the_chain_are_left_out(chain: RsaChain) -> None:
    stranger = rsa_chain(["elsewhere.example"])
    assert len(make_pair(chain.chain + stranger.chain, chain.key).chain) == 2


def test_a_key_of_another_certificate_is_refused_with_both_names(chain: RsaChain) -> None:
    half, sentence = refusal(chain.chain, rsa_chain(["elsewhere.example"]).key)
    assert half == "key"
    assert "domain.key is not the key of chained.pem (for registry.example.org" in sentence


def test_an_expired_certificate_is_refused_from_its_last_second_on(chain: RsaChain) -> None:
    end = make_pair(chain.chain, chain.key).leaf.not_valid_after_utc
    make_pair(chain.chain, chain.key, now=end - timedelta(seconds=1))
    half, sentence = refusal(chain.chain, chain.key, now=end)
    assert half == "certificate"
    assert f"expired on {end:%Y-%m-%d %H:%M} UTC" in sentence


def test_a_certificate_of_the_future_asks_about_the_clock(chain: RsaChain) -> None:
    assert "clock" in refusal(chain.chain, chain.key, now=datetime(2020, 1, 1, tzinfo=UTC))[1]


def test_a_locked_key_tells_how_to_unlock_it(chain: RsaChain) -> None:
    locked = parse_key(chain.key, "key").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    half, sentence = refusal(chain.chain, locked)
    assert half == "key"
    assert "openssl pkey" in sentence


@pytest.mark.parametrize(
    ("chain_text", "key_text", "words"),
    [
        (b"", None, "no certificate in PEM form"),
        (b"\x30\x82\x01", None, "looks like DER"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", None, "damaged certificate"),
        (None, b"", "no private key"),
        (None, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "damaged private key"),
    ],
)
def test_damaged_files_are_named(
    chain_text: bytes | None, key_text: bytes | None, words: str, chain: RsaChain
) -> None:
    _, sentence = refusal(
        chain.chain if chain_text is None else chain_text, chain.key if key_text is None else key_text
    )
    assert words in sentence


def test_keys_that_no_client_would_accept_are_refused() -> None:
    def pem(key: rsa.RSAPrivateKey | x25519.X25519PrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    with pytest.raises(CertificateRefused, match="RSA key of 1024 bits"):
        parse_key(pem(rsa.generate_private_key(65537, 1024)), "domain.key")
    with pytest.raises(CertificateRefused, match="TLS servers do not use"):
        parse_key(pem(x25519.X25519PrivateKey.generate()), "domain.key")


def test_an_ec_key_after_its_parameters_is_found() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert isinstance(parse_key(parameters + key, "key"), ec.EllipticCurvePrivateKey)


def test_unreadable_and_oversized_files_are_refused_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(CertificateRefused, match=r"missing\.pem cannot be read: No such file"):
        read_pair(tmp_path / "missing.pem", tmp_path / "missing.key")
    with pytest.raises(CertificateRefused, match="Is a directory"):
        read_pair(tmp_path, tmp_path)
    (tmp_path / "big.pem").write_bytes(b"x" * (MAX_PEM_BYTES + 1))
    with pytest.raises(CertificateRefused, match="larger than 1 MiB"):
        read_pair(tmp_path / "big.pem", tmp_path / "big.pem")


def test_facts_tell_names_issuer_days_and_whether_chain_and_key_fit(chain: RsaChain, tmp_path: Path) -> None:
    whole, alone, key, root = (tmp_path / n for n in ("chained.pem", "cert.pem", "domain.key", "root.pem"))
    whole.write_bytes(chain.chain)
    alone.write_bytes(chain.leaf)
    key.write_bytes(chain.key)
    root.write_bytes(chain.root)
    facts = inspect_certificate(whole, key, roots=root)
    assert facts.names == ("registry.example.org", "www.registry.example.org")
    assert facts.issuer == "Test R3"
    assert facts.key_type == "RSA 2048"
    assert 89 < facts.days_left <= 90
    assert facts.chain_complete
    assert facts.key_matches
    assert not facts.self_signed
    assert not inspect_certificate(alone, roots=root).chain_complete
    assert not inspect_certificate(whole).chain_complete
    assert inspect_certificate(alone).key_matches is None
    key.write_bytes(rsa_chain(["elsewhere.example"]).key)
    assert inspect_certificate(whole, key).key_matches is False


def test_an_expired_certificate_can_still_be_inspected(chain: RsaChain, tmp_path: Path) -> None:
    path = tmp_path / "chained.pem"
    path.write_bytes(chain.chain)
    later = datetime.now(UTC) + timedelta(days=100)
    assert inspect_certificate(path, now=later).days_left < 0


def test_a_dev_certificate_is_complete_with_its_ca(tmp_path: Path) -> None:
    ensure_leaf(tmp_path, [])
    facts = inspect_certificate(tmp_path / "leaf.crt", tmp_path / "leaf.key", roots=tmp_path / "ca.crt")
    assert facts.chain_complete
    assert facts.key_type == "ECDSA secp256r1"
    assert inspect_certificate(tmp_path / "ca.crt").self_signed
