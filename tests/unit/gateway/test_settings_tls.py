"""Owns what must hold of HSTS: nothing is sent unasked, and no promise is made that the preload list would refuse."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings_tls import Tls

YEAR_S = 31_536_000


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, ""),
        ({"hsts_s": 300}, "max-age=300"),
        ({"hsts_s": 300, "hsts_include_subdomains": True}, "max-age=300; includeSubDomains"),
        (
            {"hsts_s": YEAR_S, "hsts_include_subdomains": True, "hsts_preload": True},
            f"max-age={YEAR_S}; includeSubDomains; preload",
        ),
    ],
)
def test_what_is_asked_for_is_sent(given: dict[str, Any], sent: str) -> None:
    assert Tls(**given).hsts == sent


@pytest.mark.parametrize(
    "given",
    [
        {"hsts_include_subdomains": True},
        {"hsts_preload": True},
        {"hsts_s": YEAR_S, "hsts_preload": True},
        {"hsts_s": YEAR_S - 1, "hsts_include_subdomains": True, "hsts_preload": True},
    ],
)
def test_what_would_be_without_effect_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"needs tls\.hsts"):
        Tls(**given)
