"""What is told about a certificate, well or not."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner

from gateway.acme.live import install
from gateway.acme.plan import plan_of
from gateway.acme.state import AcmeState
from gateway.acme.status import certificate_status, report_of
from gateway.cli import main
from gateway.net.certificate import make_pair
from gateway.net.tls import open_source
from gateway.settings import Settings
from tests.support.certificates import rsa_chain

NOW = datetime.now(UTC)


def settings(data_dir: Path, **tls: object) -> Settings:
    server = {"data_dir": data_dir, "public_url": "https://a.example"}
    return Settings.model_validate({"server": server, "tls": tls})


def test_a_dev_certificate_is_well_and_says_when_it_is_renewed(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    assert not certificate_status(chosen).is_well
    assert "does not exist yet" in certificate_status(chosen).trouble
    open_source(chosen)
    told = certificate_status(chosen)
    assert told.is_well
    assert told.facts is not None
    assert told.facts.chain_complete
    assert told.next_renewal == told.facts.not_after - timedelta(days=30)
    text = "\n".join(told.lines())
    assert "belongs to the certificate: yes" in text
    assert "chain:        complete" in text
    assert json.loads(json.dumps(told.to_dict()))["ok"] is True


def test_files_that_disagree_or_end_soon_show_it(tmp_path: Path) -> None:
    chain, other = rsa_chain(["a.example"], not_after=NOW + timedelta(days=10)), rsa_chain(["b.example"])
    (tmp_path / "c").write_bytes(chain.leaf)
    (tmp_path / "k").write_bytes(other.key)
    chosen = settings(tmp_path, mode="files", certificate=tmp_path / "c", key=tmp_path / "k")
    told = certificate_status(chosen)
    assert not told.is_well
    text = "\n".join(told.lines())
    assert "belongs to the certificate: NO" in text
    assert "less than 21 days" in text
    assert "INCOMPLETE" in text
    (tmp_path / "k").write_bytes(chain.key)
    assert certificate_status(chosen).is_well
    assert not certificate_status(chosen, now=NOW + timedelta(days=11)).is_well


def test_acme_tells_the_last_error_and_the_next_try(tmp_path: Path) -> None:
    chosen = settings(tmp_path, mode="acme")
    plan = plan_of(chosen)
    plan.folder.mkdir()
    AcmeState(
        plan_id=plan.id,
        failures=1,
        retry_at=NOW + timedelta(hours=1),
        last_error="no route",
        last_error_at=NOW,
    ).save(plan.folder)
    told = certificate_status(chosen, now=NOW)
    assert told.next_try == NOW + timedelta(hours=1)
    text = "\n".join(told.lines())
    assert "last error:   no route" in text
    assert "next try:" in text
    other = rsa_chain(["b.example"])
    plan.live.write_bytes(other.key + other.chain)
    assert "does not serve a.example" in certificate_status(chosen).trouble


def test_tls_off_needs_nobody(tmp_path: Path) -> None:
    told = certificate_status(settings(tmp_path, mode="off"))
    assert told.is_well
    assert told.lines() == ["TLS is off: there is no certificate."]


def test_commands_that_make_no_sense_say_so(tmp_path: Path) -> None:
    def cert(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["cert", *words, "--data-dir", str(tmp_path)])
        return done.exit_code, done.output

    assert cert("status")[0] == 1
    code, text = cert("issue")
    assert code == 1
    assert "only with tls.mode = 'acme'" in text
    code, text = cert("import", str(tmp_path))
    assert code == 1
    assert "holds none of the pairs" in text
    code, text = cert("export", str(tmp_path / "out"))
    assert code == 1
    assert "cannot be read" in text


def test_the_pages_are_told_of_the_certificate_in_use(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    source = open_source(chosen)
    assert source is not None
    told = report_of(chosen, source)
    assert (told.mode, told.stands_in, told.last_error) == ("dev", False, "")
    assert "a.example" in told.names
    assert told.not_after == source.expires_at
    assert told.next_renewal == told.not_after - timedelta(days=30).total_seconds()


def test_the_pages_are_told_why_new_files_are_not_in_use(tmp_path: Path) -> None:
    chain, other = rsa_chain(["a.example"]), rsa_chain(["b.example"])
    (tmp_path / "c").write_bytes(chain.chain)
    (tmp_path / "k").write_bytes(chain.key)
    chosen = settings(tmp_path, mode="files", certificate=tmp_path / "c", key=tmp_path / "k")
    source = open_source(chosen)
    assert source is not None
    (tmp_path / "c").write_bytes(other.chain)
    source.reload()
    told = report_of(chosen, source)
    assert told.names == ("a.example",)
    assert "is not the key of" in told.last_error
    assert told.next_renewal == 0


def test_the_pages_are_told_that_a_self_signed_one_stands_in_and_when_it_is_tried_again(
    tmp_path: Path,
) -> None:
    chosen = settings(tmp_path, mode="acme")
    source, plan = open_source(chosen), plan_of(chosen)
    assert source is not None
    plan.folder.mkdir()
    retry = datetime.now(UTC) + timedelta(minutes=5)  # the report reads the clock
    AcmeState(plan_id=plan.id, retry_at=retry, last_error="Refused.", last_error_at=NOW).save(plan.folder)
    told = report_of(chosen, source)
    assert told.stands_in
    assert (told.last_error, told.last_error_at) == ("Refused.", NOW.timestamp())
    assert (told.next_try, told.next_renewal) == (retry.timestamp(), 0)
    chain = rsa_chain(["a.example"])
    state = install(plan, make_pair(chain.chain, chain.key), AcmeState.load(plan.folder), NOW)
    source.reload()
    told = report_of(chosen, source)
    assert not told.stands_in
    assert state.renew_at is not None
    assert (told.last_error, told.next_renewal) == ("", state.renew_at.timestamp())
