"""Answers to challenges: there while they are open, never a file that is none of them."""

from pathlib import Path

import pytest

from gateway.acme.challenges import Challenges
from gateway.net.dev_ca import self_signed

TOKEN = "DyQdTQvtz_rGpzuzXfRiQK4pky8m-Hl8oQm_ycWWkjQ"


def test_an_answer_is_there_as_long_as_its_challenge(tmp_path: Path) -> None:
    challenges = Challenges(tmp_path)
    assert challenges.http_answer(TOKEN) is None
    with challenges.opened_http({TOKEN: b"proof"}):
        assert challenges.http_answer(TOKEN) == b"proof"
        assert Challenges(tmp_path).http_answer(TOKEN) == b"proof", "another worker answers too"
    assert challenges.http_answer(TOKEN) is None


@pytest.mark.parametrize(
    "token", ["", "..", "../state.json", "a/b", "x" * 7, "x" * 257, "%2e%2e", "tökentöken"]
)
def test_what_is_no_token_is_never_looked_for(token: str, tmp_path: Path) -> None:
    with Challenges(tmp_path).opened_http({TOKEN: b"proof"}):
        assert Challenges(tmp_path).http_answer(token) is None


def test_leftovers_of_a_turn_that_was_killed_are_removed(tmp_path: Path) -> None:
    challenges = Challenges(tmp_path)
    (tmp_path / "acme" / "challenges").mkdir(parents=True)
    (tmp_path / "acme" / "challenges" / TOKEN).write_bytes(b"old")
    with challenges.opened_http({}):
        assert challenges.http_answer(TOKEN) is None


def test_an_error_while_open_closes_the_challenge(tmp_path: Path) -> None:
    challenges = Challenges(tmp_path)
    with pytest.raises(RuntimeError), challenges.opened_http({TOKEN: b"proof"}):
        raise RuntimeError
    assert challenges.http_answer(TOKEN) is None


def test_a_validators_context_exists_for_the_open_name_only(tmp_path: Path) -> None:
    challenges = Challenges(tmp_path)
    assert not challenges.any_tls()
    with challenges.opened_tls({"registry.example": self_signed(["registry.example"]).pem}):
        assert challenges.any_tls()
        assert challenges.tls_context("registry.example") is not None
        for other in ("", "other.example", "../../tls/leaf", "registry.example/", "."):
            assert challenges.tls_context(other) is None
        assert challenges.http_answer("registry.example.pem") is None
    assert not challenges.any_tls()
