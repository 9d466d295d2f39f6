"""Owns the promise that the documentation is that of this code."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from docs import generate
from gateway.settings_source import setting_names

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PROSE: Final = tuple(sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")]))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The generated pages, by a process of its own: click remembers how a command was called before."""
    code = "import json; from docs import generate; print(json.dumps(generate.pages()))"
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    known: dict[str, str] = json.loads(made.stdout)
    return known


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "errors.md"])
def test_a_generated_page_is_what_the_code_says(name: str, pages: dict[str, str]) -> None:
    assert (DOCS / name).read_text() == pages[name], "run 'make docs'"


def test_every_setting_stands_in_the_commented_settings_file() -> None:
    template = (ROOT / "conf" / "gateway.toml").read_text()
    leaves = {name.rpartition(".")[2] for name in setting_names() if name != "routes"}
    assert "[[routes]]" in template
    missing = {leaf for leaf in leaves if not re.search(rf"^#?\s*{leaf}\s*=", template, re.MULTILINE)}
    secrets = {"access_key", "secret_key", "previous_access_key", "previous_secret_key"}
    assert missing <= secrets, f"conf/gateway.toml lacks {sorted(missing - secrets)}"


def test_every_error_code_means_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for cls in generate.error_classes():
        statuses.setdefault(cls.code, set()).add(cls.status)
    assert {code for code, found in statuses.items() if len(found) > 1} == set()


@pytest.mark.parametrize("page", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken, f"{page.name}: {broken}"


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


def test_every_test_that_a_page_names_exists() -> None:
    files: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        files[path.name] = files.get(path.name, "") + path.read_text()
    missing: list[str] = []
    file = ""
    for named, test in re.findall(
        r"`([a-z0-9_/]*(?:\.py)?)::(test_[a-z0-9_]+)`", (DOCS / "defects.md").read_text()
    ):
        file = named or file
        if f"def {test}(" not in files.get(file, ""):
            missing.append(f"{file}::{test}")
    assert missing == []
    assert (DOCS / "defects.md").read_text().count("`test_") > 40
