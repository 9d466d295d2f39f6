"""What a client certificate opens."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from gateway.certificate_gate import CertificateGate
from gateway.errors import CertificateNeeded, NotFound
from gateway.http.exchange import ClientExchange
from gateway.http.head import RequestHead
from gateway.settings_tls import Tls
from tests.support.fake_exchange import LOCAL_PEER, make_head


class Visit:
    """As much of an exchange as the gate looks at."""

    def __init__(self, path: str, *, client: str = "", proxied: bool = False) -> None:
        self.head: RequestHead = make_head("GET", path)
        self.peer = replace(LOCAL_PEER, trusts_forwarded=proxied)
        self.verified_client = client


def admit(visit: Visit, *paths: str, client_ca: Path | None = Path("ca.pem")) -> Visit:
    tls = Tls.model_validate(
        {"client_ca": client_ca, **({"client_certificate_paths": paths} if paths else {})}
    )
    CertificateGate(tls).admit(cast(ClientExchange, visit))
    return visit


def test_without_a_ca_nothing_is_demanded_and_nothing_opened() -> None:
    assert not admit(Visit("/admin", client="alice"), client_ca=None).peer.is_admin


@pytest.mark.parametrize("path", ["/", "/administrators", "/upload", "/-/healthz", "/v1/images/a/admin/c:1"])
def test_all_but_the_paths_named_are_open(path: str) -> None:
    assert not admit(Visit(path)).peer.is_admin


@pytest.mark.parametrize("path", ["/admin", "/admin/", "//admin", "/a/../admin/x", "/%61dmin", "/admin?x"])
def test_the_paths_named_want_a_certificate_however_they_are_spelt(path: str) -> None:
    with pytest.raises(CertificateNeeded, match="client certificate"):
        admit(Visit(path))
    assert admit(Visit(path, client="alice")).peer.is_admin


def test_a_proxys_certificate_says_nothing_about_its_visitors() -> None:
    with pytest.raises(CertificateNeeded):
        admit(Visit("/admin", client="the proxy", proxied=True))
    assert not admit(Visit("/-/metrics", client="the proxy", proxied=True)).peer.is_admin


def test_everything_can_be_guarded_but_the_challenges_of_authorities() -> None:
    with pytest.raises(CertificateNeeded):
        admit(Visit("/upload"), "/")
    admit(Visit("/.well-known/acme-challenge/abc"), "/")


def test_the_operations_pages_stay_hidden_where_they_are_guarded() -> None:
    with pytest.raises(NotFound) as refused:
        admit(Visit("/-/healthz"), "/-/")
    assert not isinstance(refused.value, CertificateNeeded)
