"""Pairs from certbot's folders, and out again under the names others look for."""

from pathlib import Path

import pytest

from gateway.acme.transfer import STYLES, find_pair, write_pair
from gateway.net.certificate import CertificateRefused, make_pair
from tests.support.certificates import RsaChain, rsa_chain


@pytest.fixture(scope="module")
def chain() -> RsaChain:
    return rsa_chain(["a.example"])


def certbot(folder: Path, name: str, chain: RsaChain) -> Path:
    site = folder / "live" / name
    site.mkdir(parents=True)
    (site / "fullchain.pem").write_bytes(chain.chain)
    (site / "privkey.pem").write_bytes(chain.key)
    return site


def test_certbots_folder_is_understood_at_every_level(chain: RsaChain, tmp_path: Path) -> None:
    site = certbot(tmp_path, "a.example", chain)
    for start in (site, site.parent, tmp_path):
        assert find_pair(start).names == ("a.example",)


def test_among_several_one_must_be_named(chain: RsaChain, tmp_path: Path) -> None:
    certbot(tmp_path, "a.example", chain)
    certbot(tmp_path, "b.example", rsa_chain(["b.example"]))
    with pytest.raises(CertificateRefused, match=r"a\.example, b\.example"):
        find_pair(tmp_path)
    assert find_pair(tmp_path, "b.example").names == ("b.example",)
    with pytest.raises(CertificateRefused, match="several"):
        find_pair(tmp_path, "c.example")


def test_a_folder_without_a_pair_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CertificateRefused, match=r"fullchain\.pem \+ privkey\.pem"):
        find_pair(tmp_path)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_what_is_written_can_be_read_again_and_the_key_is_private(
    style: str, chain: RsaChain, tmp_path: Path
) -> None:
    pair = make_pair(chain.chain, chain.key)
    certificate, key = write_pair(pair, tmp_path / "out", style)
    assert find_pair(tmp_path / "out").chain == pair.chain
    assert key.stat().st_mode & 0o777 == 0o600
    assert certificate.stat().st_mode & 0o777 == 0o644
