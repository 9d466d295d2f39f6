"""Owns what scientists read while the registry is closed: every word of the real library client, in every mode."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.library_client import ClientFailed, LibraryClient
from tests.support.product import Product
from tests.support.sif import make_sif, make_small_sif

MIB = 1 << 20
REF = "ada/tools/hello:latest"
UNTIL = "2099-12-01T14:00:00Z"
END = "It is expected back on 1 December 2099 at 14:00 UTC."
LINES = {
    "full": "The registry is down for maintenance",
    "read-only": "The registry is read-only during maintenance, downloads work",
    "uploads-off": "Uploads are switched off for maintenance, downloads work",
}


@pytest.fixture
def client(product: Product, tmp_path: Path) -> Iterator[LibraryClient]:
    """Somebody who has pushed an image before."""
    client = product.library(product.new_user("ada"))
    client.run("push", REF.partition(":")[0], make_small_sif(tmp_path / "hello.sif"))
    yield client
    product.run("gateway", "maintenance", "off")


def _says(client: LibraryClient, *words: str | Path) -> str:
    """What is printed, without the status behind it."""
    with pytest.raises(ClientFailed) as failed:
        client.run(*words)
    text = str(failed.value)
    print(f"{words[0]}: {text}")
    found = re.fullmatch(r"(?:request|download) did not succeed: (.*) \(503 Service Unavailable\)", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("mode", list(LINES))
@pytest.mark.parametrize(
    ("options", "rest"),
    [
        ((), ". Try again later."),
        (("--message", "Moving to faster disks."), ": Moving to faster disks."),
        (("--until", UNTIL), f". {END}"),
        (
            ("--message", "Moving to faster disks", "--until", UNTIL),
            f": Moving to faster disks. {END}",
        ),
    ],
    ids=["bare", "message", "until", "both"],
)
def test_the_clients_line_says_what_why_and_until_when(
    product: Product, client: LibraryClient, tmp_path: Path, mode: str, options: tuple[str, ...], rest: str
) -> None:
    product.run("gateway", "maintenance", "on", "--mode", mode, *options)
    line = LINES[mode] + rest
    for image in (make_small_sif(tmp_path / "new.sif"), make_sif(tmp_path / "big.sif", size_bytes=70 * MIB)):
        assert _says(client, "push", "ada/tools/new", image) == line
    # What 'apptainer pull' asks first, and the download itself.
    pulls: tuple[tuple[str | Path, ...], ...] = (("get", REF), ("pull", REF, tmp_path / "back"))
    for words in pulls:
        if mode == "full":
            assert _says(client, *words) == line
        else:
            client.run(*words)


def test_a_core_that_does_not_answer_is_a_sentence_too(
    product: Product, client: LibraryClient, tmp_path: Path
) -> None:
    core = product.core_pid()
    os.kill(core, signal.SIGSTOP)
    try:
        time.sleep(2)
        line = "The registry is down for maintenance. Try again in a moment."
        assert _says(client, "push", "ada/tools/new", make_small_sif(tmp_path / "new.sif")) == line
        assert _says(client, "get", REF) == line
        assert _says(client, "pull", REF, tmp_path / "back") == line
    finally:
        os.kill(core, signal.SIGCONT)
