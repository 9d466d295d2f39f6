"""Owns how secrets are made and compared."""

import pytest

from gateway.errors import BadForm
from registry_core import credentials


def test_a_token_fits_the_real_clients_token_file() -> None:
    token = credentials.new_token()
    assert 200 <= len(token) <= 4096
    assert token.isascii()
    assert token != credentials.new_token()
    assert credentials.token_hint(token) == token[:10]
    assert len(credentials.digest(token)) == 64


def test_a_password_is_only_itself() -> None:
    stored = credentials.hash_password("correct horse")
    assert stored.startswith("$argon2id$")
    assert credentials.password_matches(stored, "correct horse")
    assert not credentials.password_matches(stored, "correct horse ")
    assert not credentials.password_matches("", "correct horse")
    assert not credentials.password_matches("", "")
    assert not credentials.password_matches("not a hash", "x")


@pytest.mark.parametrize(("length", "fits"), [(7, False), (8, True), (1024, True), (1025, False)])
def test_passwords_have_bounds(length: int, fits: bool) -> None:
    if fits:
        assert credentials.check_new_password("x" * length)
    else:
        with pytest.raises(BadForm):
            credentials.check_new_password("x" * length)
