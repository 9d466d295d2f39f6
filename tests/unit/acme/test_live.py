"""Whether the certificate in use serves the plan, and how another takes its place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.acme.account import Account
from gateway.acme.live import due_step, install, own_renewal_time, renewal_time, usable_pair
from gateway.acme.plan import AcmePlan
from gateway.acme.schedule import Step
from gateway.acme.state import AcmeState
from gateway.net.certificate import make_pair
from tests.support.certificates import rsa_chain

NOW = datetime.now(UTC)


def plan(data_dir: Path, *names: str) -> AcmePlan:
    (data_dir / "acme").mkdir(exist_ok=True)
    return AcmePlan(data_dir=data_dir, names=names or ("a.example",), directory="https://ca.example/dir")


def test_an_installed_pair_is_usable_private_and_due_later(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    chain = rsa_chain(["a.example"])
    pair = make_pair(chain.chain, chain.key)
    assert usable_pair(wanted, NOW) is None
    state = install(wanted, pair, AcmeState(failures=3, last_error="no"), NOW)
    assert wanted.live.stat().st_mode & 0o777 == 0o600
    found = usable_pair(wanted, NOW)
    assert found is not None
    assert found.leaf == pair.leaf
    assert state == AcmeState.load(wanted.folder)
    assert state.renew_at == own_renewal_time(pair) == renewal_time(AcmeState(), pair)
    assert due_step(wanted, state, found, NOW + timedelta(days=61)) is Step.ORDER


def test_a_pair_that_lacks_a_name_or_has_expired_is_not_usable(tmp_path: Path) -> None:
    chain = rsa_chain(["a.example", "*.b.example"])
    install(plan(tmp_path), make_pair(chain.chain, chain.key), AcmeState(), NOW)
    assert usable_pair(plan(tmp_path, "a.example", "x.b.example"), NOW) is not None
    assert usable_pair(plan(tmp_path, "a.example", "c.example"), NOW) is None
    assert usable_pair(plan(tmp_path), NOW + timedelta(days=91)) is None


def test_an_account_keeps_its_key_when_its_address_is_forgotten(tmp_path: Path) -> None:
    account = Account.load(tmp_path, "https://ca.example/dir")
    account.keep_uri(tmp_path, "https://ca.example/account/1")
    again = Account.load(tmp_path, "https://ca.example/dir")
    assert again.uri == "https://ca.example/account/1"
    again.forget_uri(tmp_path)
    forgotten = Account.load(tmp_path, "https://ca.example/dir")
    assert forgotten.uri == ""
    assert forgotten.key.private_numbers() == account.key.private_numbers()
    (file,) = (tmp_path / "accounts").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("torn")
    assert Account.load(tmp_path, "https://ca.example/dir").key.private_numbers() != (
        account.key.private_numbers()
    )
