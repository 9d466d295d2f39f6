"""What the settings order, and what they cannot."""

from pathlib import Path

import pytest

from gateway.acme.plan import DIRECTORIES, AcmePlan, plan_of
from gateway.errors import SettingsError
from gateway.settings import Settings


def settings(server: dict[str, object] | None = None, **tls: object) -> Settings:
    named: dict[str, object] = {"public_url": "https://Registry.Example", "data_dir": "/srv/data"}
    return Settings.model_validate({"server": {**named, **(server or {})}, "tls": {"mode": "acme", **tls}})


def problems(chosen: Settings) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        plan_of(chosen)
    return {problem.where: problem.what for problem in caught.value.problems}


def test_the_public_host_and_the_server_names_are_ordered_from_lets_encrypt() -> None:
    plan = plan_of(settings({"server_names": ["www.registry.example", "registry.example"]}))
    assert plan.names == ("registry.example", "www.registry.example")
    assert plan.directory == DIRECTORIES["letsencrypt"]
    assert plan.live == Path("/srv/data/acme/live.pem")


def test_names_and_authority_can_be_given() -> None:
    plan = plan_of(settings(acme_names=["a.example"], acme_directory="https://ca.internal/acme/directory"))
    assert plan.names == ("a.example",)
    assert plan.directory == "https://ca.internal/acme/directory"
    assert plan_of(settings(acme_directory="letsencrypt-staging")).directory.startswith(
        "https://acme-staging"
    )


@pytest.mark.parametrize(
    ("name", "words"), [("*.example", "wildcards"), ("192.0.2.1", "address"), ("ü" * 70, "host name")]
)
def test_names_that_cannot_be_proven_are_problems(name: str, words: str) -> None:
    assert words in problems(settings(acme_names=[name]))["tls.acme_names"]


def test_localhost_alone_is_no_name_to_order_for() -> None:
    chosen = settings({"public_url": ""})
    assert "set server.public_url" in problems(chosen)["tls.acme_names"]


def test_every_problem_is_told_at_once() -> None:
    told = problems(settings({"http": None}, acme_names=["*.x"], acme_eab_kid="kid"))
    assert set(told) == {"tls.acme_names", "tls.acme_challenge", "tls.acme_eab_kid"}


def test_another_order_has_another_id_and_the_same_order_the_same() -> None:
    one = plan_of(settings())
    assert one.id == plan_of(settings(acme_email="new@example.org")).id
    assert one.id != plan_of(settings(acme_challenge="tls-alpn-01")).id
    assert one.id != plan_of(settings(acme_names=["b.example"])).id


def test_a_plan_travels_as_text() -> None:
    plan = plan_of(
        settings(acme_ca_file="/ca.pem", acme_eab_kid="k", acme_eab_key_file="/k", deploy_hook="true 'a b'")
    )
    assert AcmePlan.from_json(plan.to_json()) == plan
