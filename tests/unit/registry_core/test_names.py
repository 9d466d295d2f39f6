"""Owns how references are read."""

import pytest

from gateway.errors import NotFound
from registry_core.names import ImageRef, container_name, parse_container_path, parse_ref

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e/c/n:v1", ImageRef(entity="e", collection="c", container="n", tag="v1")),
        ("e/c/n", ImageRef(entity="e", collection="c", container="n", tag="latest")),
        ("E/C/N:V1", ImageRef(entity="e", collection="c", container="n", tag="V1")),
        ("c/n:x", ImageRef(entity="library", collection="c", container="n", tag="x")),
        ("n", ImageRef(entity="library", collection="default", container="n", tag="latest")),
        (f"e/c/n:sha256.{HEX.upper()}", ImageRef(entity="e", collection="c", container="n", sha256=HEX)),
    ],
)
def test_references_are_read(text: str, expected: ImageRef) -> None:
    assert parse_ref(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/b/c/d", "e/c/n:bad tag", "e/c/n:sha256.abc", "e/c/n@sha256:00", "e/../n", "e/c__d/n", "é"],
)
def test_what_cannot_be_a_reference_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        parse_ref(text)


def test_a_reference_is_written_as_it_is_pulled() -> None:
    assert str(parse_ref("e/c/n:v1")) == "e/c/n:v1"
    assert str(parse_ref(f"e/c/n:sha256.{HEX}")) == f"e/c/n:sha256.{HEX}"
    assert parse_container_path("/e//c/n/") == ("e", "c", "n")


def test_a_given_name_goes_before_the_files() -> None:
    assert container_name("Tool", "other.sif") == "tool"
    assert container_name("", "My Tool_v2.SIF") == "my-tool_v2"
