"""Owns the proof that docs/upgrading.md can be followed: its commands, as they stand there, move an old registry."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from gateway.cli import main as gateway
from registry_core.cli import main as registry
from tests.contract.test_legacy_import import MD5, ONE, SHA, TWO, dump
from tests.support.product import Product

DOCS: Final = Path(__file__).parents[2] / "docs"
PROGRAMS: Final = {"gateway": gateway, "registry": registry}


def commands(page: Path, *, after: str = "") -> list[list[str]]:
    """The commands of ours in the code blocks of a page, from a headline on."""
    text = page.read_text().partition(after)[2] if after else page.read_text()
    lines = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    found = []
    for line in lines.splitlines():
        if re.match(r"[\w./-]*\b(gateway|registry) [a-z-]+(\s|$)", line):
            words = shlex.split(re.sub(r"\s[<>|;&…#(].*|;.*", "", line))
            found.append(words)
    return found


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    for words in commands(page):
        known: click.Command = PROGRAMS[words[0].rpartition("/")[2]]
        rest = words[1:]
        while rest and isinstance(known, click.Group) and not rest[0].startswith("-"):
            found = known.get_command(click.Context(known), rest.pop(0))
            assert found is not None, words
            known = found
        options = {name for option in known.params for name in (*option.opts, *option.secondary_opts)}
        named = {word.partition("=")[0] for word in rest if word.startswith("--") and word != "--"}
        assert named <= options | {"--help", "--version"}, words


@pytest.mark.slow
def test_an_old_registry_is_moved_by_the_commands_of_the_page(product: Product, tmp_path: Path) -> None:
    old = tmp_path / "old"
    for path, content in (
        (old / "minio-images" / "sregistry" / "Fossils" / f"bone:sha256.{SHA}", ONE),
        (old / "images" / "Fossils" / f"bone:v2@{MD5}.sif", TWO),
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    whole = [one for one in dump() if one["fields"].get("name") not in {"gone", "stray", "lost"}]
    (old / "dump.json").write_text(json.dumps(whole))
    seen = []
    for words in commands(DOCS / "upgrading.md", after="## From the old registry"):
        ready = [word.replace("$OLD", str(old)) for word in words]
        if words[:2] == ["gateway", "check"]:
            continue  # it asks for a real certificate and public name, which this machine has not
        done = product.run(*ready)
        seen.append((words[1], done.stdout + done.stderr))
        if words[1:3] == ["maintenance", "off"]:
            break
    imports = [text for name, text in seen if name == "import-sregistry"]
    assert [re.findall(r"(\d+) skipped", text) for text in imports] == [["0"]] * 3
    assert "here already" in imports[-1]
    assert [text for name, text in seen if name == "fsck"] == ["All is well.\n"] * 2
    assert (old / "first-day.backup").stat().st_size > 0
    token = product.token("dinosaur", scope="pull")
    for tag, content in (("v1", ONE), ("v2", TWO)):
        image = product.get_json(f"/v1/images/dinosaur/fossils/bone:{tag}", token=token)
        assert image["hash"] == f"sha256.{hashlib.sha256(content).hexdigest()}"
