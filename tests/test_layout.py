"""Owns the rules of the tree: how long things may be, what they are called, that each module says what it owns."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("gateway", "registry_core", "tests", "bench", "docs")
MOST_LINES: Final = 400
MOST_FUNCTION_LINES: Final = 60
# Names that say nothing about what is inside.
EMPTY_NAMES: Final = frozenset(
    {"util", "utils", "helper", "helpers", "common", "manager", "misc", "base_class"}
)


def _modules() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in path.parts and "bin" not in path.parts:
                yield path


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


MODULES: Final = tuple(_modules())


@pytest.mark.parametrize("path", MODULES, ids=_named)
def test_a_module_is_short_documented_and_well_named(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    lines = source.count("\n")
    assert lines <= MOST_LINES, f"{_named(path)} has {lines} lines: split it by what it owns"
    if tree.body:
        assert ast.get_docstring(tree), f"{_named(path)} does not say what it owns"
    assert path.stem not in EMPTY_NAMES, f"{_named(path)}: the name says nothing"
    too_long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert not too_long, f"{_named(path)}: too long: {', '.join(too_long)}"


def test_every_folder_of_code_is_a_package() -> None:
    lacking = {_named(path.parent) for path in MODULES if not (path.parent / "__init__.py").exists()}
    assert lacking <= {"registry_core/repo/versions"}


def test_nothing_is_left_for_later() -> None:
    """No marker of unfinished work is in the product."""
    marks = ("TO" + "DO", "FIX" + "ME", "X" + "XX")
    left = [
        f"{_named(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(mark in line for mark in marks)
    ]
    assert not left
