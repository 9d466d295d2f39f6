"""What survives a restart, and what a damaged file does."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.acme.state import FILE_NAME, AcmeState


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    state = AcmeState(plan_id="p", failures=2, retry_at=now, last_error="no", last_error_at=now, renew_at=now)
    state.save(tmp_path)
    assert AcmeState.load(tmp_path) == state


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"failures": "many"}',
        '{"failures": null}',
        '{"retry_at": "soon"}',
        '{"retry_at": "2026-01-01T00:00:00"}',
        '{"plan_id": 7}',
    ],
)
def test_a_damaged_state_is_a_fresh_one(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert AcmeState.load(tmp_path) == AcmeState()


def test_fields_of_another_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"failures": 3, "from_the_future": {}}')
    assert AcmeState.load(tmp_path) == AcmeState(failures=3)
