"""Owns the fixtures that more than one folder of tests uses: a running product, short temporary folders."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import Product, running_product


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: a unix socket's path has at most 107 bytes, pytest's own folders come close."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        yield Path(folder)


@pytest.fixture
def product(short_path: Path) -> Iterator[Product]:
    """A product of the test's own."""
    with running_product(short_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Product]:
    """One product for all tests of a module: they use users of their own and do not stop it."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, running_product(Path(folder)) as running:
        yield running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure shows the end of the product's log, which usually names the reason."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if not report.failed or not isinstance(item, pytest.Function):
        return
    for value in item.funcargs.values():
        if isinstance(value, Product):
            report.sections.append(("the product's log", value.log_text[-4000:]))
