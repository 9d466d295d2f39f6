"""How many connections a process dares to take."""

import resource

import pytest

from gateway.net.server import KEPT_FILES, most_connections
from gateway.settings import Limits


@pytest.mark.parametrize(
    ("files", "listeners", "most"),
    [(1_000_000, 2, 249_976), (KEPT_FILES + 400, 2, 100), (KEPT_FILES + 400, 1, 200), (20, 2, 8)],
)
def test_connections_leave_files_for_uploads_and_the_core(
    monkeypatch: pytest.MonkeyPatch, files: int, listeners: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections(Limits(), listeners=listeners) == most
