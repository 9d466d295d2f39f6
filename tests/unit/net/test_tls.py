"""Where the certificate comes from, when it is looked at again, and how handshakes are made (no sockets)."""

import logging
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.net.certificate import CertificateRefused, Pair, key_pem, make_pair
from gateway.net.dev_ca import ensure_leaf
from gateway.net.handshake import verified_client
from gateway.net.tls import (
    REFRESH_AFTER,
    CertificateSource,
    LiveContext,
    Origin,
    Policy,
    live_pair_path,
    make_context,
    name_is_covered,
    open_source,
)
from gateway.settings import Settings
from tests.support.certificates import rsa_chain


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def settings(
    data_dir: Path, tls: Mapping[str, object], server: Mapping[str, object] | None = None
) -> Settings:
    return Settings.model_validate({"server": {"data_dir": data_dir, **(server or {})}, "tls": tls})


def source(data_dir: Path, clock: Clock | None = None, **tls: object) -> CertificateSource:
    opened = open_source(settings(data_dir, tls), now=clock)
    assert opened is not None
    return opened


def problem(data_dir: Path, **tls: object) -> tuple[str, str]:
    with pytest.raises(SettingsError) as caught:
        open_source(settings(data_dir, tls))
    (only,) = caught.value.problems
    return only.where, only.what


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for end in turns(ours, theirs):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours, theirs


def turns(ours: ssl.SSLObject, theirs: ssl.SSLObject) -> Iterator[ssl.SSLObject]:
    for _ in range(4):
        yield ours
        yield theirs


def trusting(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(path))


def serial(tls: ssl.SSLObject) -> str:
    facts = tls.getpeercert()
    assert facts
    return str(facts["serialNumber"])


def test_mode_off_needs_no_certificate(tmp_path: Path) -> None:
    assert open_source(settings(tmp_path, {"mode": "off"})) is None


def test_dev_mode_covers_the_public_host_and_the_server_names(tmp_path: Path) -> None:
    names: dict[str, object] = {
        "public_url": "https://registry.example.org:8443/",
        "server_names": ["www.registry.example.org"],
    }
    opened = open_source(settings(tmp_path, {}, names))
    assert opened is not None
    assert {"registry.example.org", "www.registry.example.org", "localhost"} <= set(opened.facts.names)
    assert opened.facts.chain_complete
    assert opened.expires_at == opened.facts.not_after.timestamp()


def test_files_that_cannot_be_used_are_a_problem_of_their_setting(tmp_path: Path) -> None:
    chain, other = rsa_chain(["a.example"]), rsa_chain(["b.example"])
    certificate, key = tmp_path / "chained.pem", tmp_path / "domain.key"
    key.write_bytes(other.key)
    assert problem(tmp_path, mode="files", certificate=certificate, key=key)[0] == "tls.certificate"
    certificate.write_bytes(chain.chain)
    where, what = problem(tmp_path, mode="files", certificate=certificate, key=key)
    assert where == "tls.key"
    assert "is not the key of" in what


def test_a_client_ca_that_is_none_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    assert problem(tmp_path, client_ca=tmp_path / "empty.pem")[0] == "tls.client_ca"


def test_until_the_first_acme_certificate_is_there_a_self_signed_one_serves(tmp_path: Path) -> None:
    opened = source(tmp_path, mode="acme")
    assert opened.facts.self_signed
    assert opened.stands_in
    chain = rsa_chain(["localhost"])
    live_pair_path(tmp_path).parent.mkdir()
    live_pair_path(tmp_path).write_bytes(chain.key + chain.chain)
    assert not opened.poll()
    assert opened.poll()
    assert not opened.facts.self_signed
    assert not opened.stands_in
    live_pair_path(tmp_path).unlink()
    assert "cannot be read" in opened.reload()
    assert not opened.stands_in
    assert not opened.facts.self_signed, "a real certificate is never given up for a stand-in"


def test_an_acme_certificate_that_expired_while_the_machine_slept_stops_no_start(tmp_path: Path) -> None:
    clock = Clock()
    chain = rsa_chain(["localhost"], not_after=clock.now - timedelta(hours=1))
    live_pair_path(tmp_path).parent.mkdir()
    live_pair_path(tmp_path).write_bytes(chain.key + chain.chain)
    opened = source(tmp_path, clock, mode="acme")
    assert opened.facts.self_signed
    clock.now += REFRESH_AFTER
    assert opened.poll()
    assert opened.facts.self_signed
    assert opened.stands_in
    assert opened.last_error == ""


def test_a_change_of_files_is_taken_up_once_it_has_settled(tmp_path: Path) -> None:
    first, second = rsa_chain(["localhost"]), rsa_chain(["localhost"])
    certificate, key = tmp_path / "chained.pem", tmp_path / "domain.key"
    certificate.write_bytes(first.chain)
    key.write_bytes(first.key)
    opened = source(tmp_path, mode="files", certificate=certificate, key=key)
    before = opened.facts.serial
    assert not opened.poll()
    certificate.write_bytes(second.chain)
    assert not opened.poll()
    key.write_bytes(second.key)
    assert not opened.poll()
    assert opened.facts.serial == before
    assert opened.poll()
    assert opened.facts.serial != before
    assert opened.last_error == ""


def test_a_bad_pair_leaves_the_old_one_and_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = rsa_chain(["localhost"])
    certificate, key = tmp_path / "chained.pem", tmp_path / "domain.key"
    certificate.write_bytes(chain.chain)
    key.write_bytes(chain.key)
    (tmp_path / "root.pem").write_bytes(chain.root)
    opened = source(tmp_path, mode="files", certificate=certificate, key=key)
    key.write_bytes(b"torn")
    assert "no private key" in opened.reload()
    assert "no private key" in opened.last_error
    assert "the old one stays" in caplog.text
    ours, _ = shake_hands(opened.context, trusting(tmp_path / "root.pem"))
    assert int(serial(ours), 16) == int(opened.facts.serial, 16)
    key.write_bytes(chain.key)
    assert opened.reload() == ""


def test_ticket_keys_change_with_the_refresh(tmp_path: Path) -> None:
    clock = Clock()
    opened = source(tmp_path, clock)
    client = trusting(tmp_path / "tls" / "ca.crt")
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # its tickets come within the handshake
    ours, _ = shake_hands(opened.context, client)
    session = ours.session

    def resumed() -> bool:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        again = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
        theirs = opened.context.wrap_bio(to_server, to_client, server_side=True)
        for end in turns(again, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        return bool(again.session_reused)

    assert resumed()
    clock.now += REFRESH_AFTER - timedelta(seconds=1)
    assert not opened.poll()
    assert resumed()
    clock.now += timedelta(seconds=1)
    assert opened.poll()
    assert not resumed()


def test_a_dev_leaf_is_renewed_while_the_gateway_runs(tmp_path: Path) -> None:
    clock = Clock()
    opened = source(tmp_path, clock)
    before = opened.facts.serial
    clock.now += timedelta(days=368)
    assert opened.poll()
    assert opened.facts.serial != before


def test_expiry_is_warned_of_daily_from_21_days_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    chain = rsa_chain(["localhost"], not_after=clock.now + timedelta(days=30))
    for name, text in (("c.pem", chain.chain), ("k.pem", chain.key)):
        (tmp_path / name).write_bytes(text)
    opened = source(tmp_path, clock, mode="files", certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")

    def warnings() -> int:
        caplog.clear()
        opened.poll()
        return sum("expires in" in r.message for r in caplog.records if r.levelno == logging.WARNING)

    assert warnings() == 0
    clock.now += timedelta(days=9, minutes=1)
    assert warnings() == 1
    assert warnings() == 0
    clock.now += timedelta(days=1)
    assert warnings() == 1


def test_no_certificate_is_asked_of_clients_unless_a_ca_is_given(tmp_path: Path) -> None:
    pair = ensure_leaf(tmp_path / "tls", [])
    assert make_context(pair, Policy()).verify_mode == ssl.CERT_NONE
    wanting = make_context(pair, Policy(client_ca=(tmp_path / "tls" / "ca.crt").read_bytes()))
    plain = trusting(tmp_path / "tls" / "ca.crt")
    _, without = shake_hands(wanting, plain)
    assert not without.getpeercert()
    plain.load_cert_chain(*client_files(tmp_path, pair))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        until_refused(wanting, plain)


def test_a_client_with_a_certificate_of_the_ca_is_known_by_name(tmp_path: Path) -> None:
    staff = rsa_chain(["alice.example"])
    (tmp_path / "alice.pem").write_bytes(staff.chain)
    (tmp_path / "alice.key").write_bytes(staff.key)
    (tmp_path / "staff.pem").write_bytes(staff.root)
    opened = source(tmp_path, client_ca=tmp_path / "staff.pem")
    client = trusting(tmp_path / "tls" / "ca.crt")
    _, without = shake_hands(opened.context, client)
    assert verified_client(without) == ""
    client.load_cert_chain(tmp_path / "alice.pem", tmp_path / "alice.key")
    _, known = shake_hands(opened.context, client)
    assert verified_client(known) == "alice.example"
    assert verified_client(None) == ""


def test_another_client_ca_counts_from_the_next_handshake_on(tmp_path: Path) -> None:
    old, new = rsa_chain(["alice.example"]), rsa_chain(["bob.example"])
    roots = tmp_path / "staff.pem"
    roots.write_bytes(old.root)
    opened = source(tmp_path, client_ca=roots)
    client = trusting(tmp_path / "tls" / "ca.crt")
    (tmp_path / "bob.pem").write_bytes(new.chain + new.key)
    client.load_cert_chain(tmp_path / "bob.pem")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        until_refused(opened.context.current, client)
    roots.write_text("no certificate")
    assert "holds no certificate" in opened.reload()
    roots.write_bytes(new.root)
    assert not opened.poll()
    assert opened.poll()
    _, known = shake_hands(opened.context, client)
    assert verified_client(known) == "bob.example"


def client_files(folder: Path, pair: Pair) -> tuple[Path, Path]:
    # A server's certificate is no client's: its extended key usage says so.
    (folder / "client.key").write_bytes(key_pem(pair.key))
    return folder / "tls" / "leaf.crt", folder / "client.key"


def until_refused(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    live = LiveContext(server)
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = live.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        try:
            ours.do_handshake()
        except ssl.SSLWantReadError:
            pass
        try:
            theirs.do_handshake()
        except ssl.SSLWantReadError:
            pass


def test_a_refused_client_is_told_before_the_failure_is_raised(tmp_path: Path) -> None:
    opened = source(tmp_path, profile="modern")
    client = trusting(tmp_path / "tls" / "ca.crt")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = opened.context.wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        ours.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        theirs.do_handshake()
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        ours.do_handshake()
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        theirs.do_handshake()


def test_what_openssl_refuses_is_a_sentence(tmp_path: Path) -> None:
    pair = ensure_leaf(tmp_path, [])
    broken = Pair(chain=pair.chain, key=pair.key, pem=b"nothing")

    def load(_now: datetime) -> Pair:
        return broken

    with pytest.raises(CertificateRefused, match="OpenSSL refuses"):
        CertificateSource(Origin(load=load, files=(), setting={}), Policy)


def test_a_stand_in_is_one_until_openssl_has_taken_the_real_one(tmp_path: Path) -> None:
    chain = rsa_chain(["localhost"])
    real = make_pair(chain.chain, chain.key)
    pairs = [Pair(chain=real.chain, key=real.key, pem=b"nothing"), real]

    def load(now: datetime) -> Pair:
        if now == clock.now and clock.now > began:
            return pairs.pop(0)
        raise CertificateRefused("certificate", "not there yet")

    clock = Clock()
    began = clock.now
    origin = Origin(load=load, files=(), setting={}, stand_in=lambda now: ensure_leaf(tmp_path, [], now=now))
    opened = CertificateSource(origin, Policy, now=clock)
    clock.now += timedelta(seconds=1)
    assert "OpenSSL refuses" in opened.reload()
    assert opened.stands_in
    assert opened.reload() == ""
    assert not opened.stands_in


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("x.wild.example", True),
        ("wild.example", False),
        ("y.x.wild.example", False),
        ("b.example", False),
        ("::1", True),
    ],
)
def test_a_wildcard_stands_for_one_label(name: str, covered: bool) -> None:
    assert name_is_covered(name, ("a.example", "*.wild.example", "::1")) is covered
