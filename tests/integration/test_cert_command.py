"""``gateway cert`` against a real authority, and what it hands to other programs."""

import asyncio
import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.acme.transfer import STYLES
from gateway.cli import main
from tests.support.acme_door import NAMES, Place, open_door, reluctant_place, sources
from tests.support.certificates import rsa_chain

type Command = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with reluctant_place(tmp_path) as made:
        yield made


def test_the_cert_command_issues_renews_tells_imports_and_exports(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    hook = tmp_path / "hook.py"
    hook.write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'hooked')!r}).write_text(os.environ['CERTIFICATE_NAMES'])\n"
    )
    config.write_text(as_toml(place))
    source, _ = sources(place.settings())
    cert = command_for(config)

    async def story() -> None:
        async with open_door(place, source):
            missing = await asyncio.to_thread(cert, "status")
            assert missing.exit_code == 1
            assert "does not exist yet" in missing.output
            issued = await asyncio.to_thread(cert, "issue", "--deploy-hook", f"{sys.executable} {hook}")
            assert issued.exit_code == 0, issued.output
            kept = await asyncio.to_thread(cert, "renew")
            assert kept.exit_code == 0, kept.output
            broken = await asyncio.to_thread(cert, "renew", "--force", "--deploy-hook", "/nonexistent")
            assert broken.exit_code == 1
            assert "New certificate" in broken.output
            assert "ended with status 127" in broken.output

    asyncio.run(story())
    assert set((tmp_path / "hooked").read_text().split()) == set(NAMES)
    told = json.loads(cert("status", "--json").output)
    assert told["ok"]
    assert told["key_matches"]
    assert set(told["names"]) == set(NAMES)
    assert told["next_renewal"] > told["not_before"]
    assert "next renewal:" in cert("status").output

    assert cert("export", str(tmp_path / "live" / NAMES[0]), "--style", "certbot").exit_code == 0
    live = place.data_dir / "acme" / "live.pem"
    before = live.read_bytes()
    live.unlink()
    imported = cert("import", str(tmp_path))
    assert imported.exit_code == 0, imported.output
    assert live.read_bytes() == before
    assert json.loads(cert("status", "--json").output)["ok"]


def with_pair(folder: Path) -> Command:
    """The command for a data folder that has an imported pair, and ``bought``, where that came from."""
    chain = rsa_chain(NAMES)
    bought = folder / "bought"
    bought.mkdir()
    (bought / "fullchain.pem").write_bytes(chain.chain)
    (bought / "privkey.pem").write_bytes(chain.key)
    config = folder / "gateway.toml"
    server = {"data_dir": folder / "data", "public_url": f"https://{NAMES[0]}", "server_names": NAMES}
    config.write_text(table("server", server) + table("tls", {"mode": "acme"}))
    cert = command_for(config)
    imported = cert("import", str(bought))
    assert imported.exit_code == 0, imported.output
    return cert


def test_export_writes_what_minio_wants_and_what_nginx_wants(tmp_path: Path) -> None:
    cert, folder = with_pair(tmp_path), tmp_path / "pairs"
    exported = cert("export", str(folder))
    names = ("public.crt", "private.key", "chained.pem", "domain.key")
    assert exported.output.split() == [str(folder / name) for name in names]
    assert {path.name for path in folder.iterdir()} == set(names)
    for certificate, key in (names[:2], names[2:]):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / certificate, folder / key)
        assert (folder / key).stat().st_mode & 0o777 == 0o600
    for style, pair in STYLES.items():
        assert cert("export", str(tmp_path / style), "--style", style).exit_code == 0
        assert {path.name for path in (tmp_path / style).iterdir()} == set(pair)


def test_import_and_export_run_the_hook_they_are_given_and_tell_its_failure(tmp_path: Path) -> None:
    cert = with_pair(tmp_path)
    live = tmp_path / "data" / "acme" / "live.pem"
    before = live.read_bytes()
    line = f'echo "$CERTIFICATE_FOLDER$CERTIFICATE_FILE $CERTIFICATE_NAMES" > {tmp_path}/told'
    for words, place in ((("import", "bought"), live), (("export", "one"), tmp_path / "one")):
        hooked = cert(words[0], str(tmp_path / words[1]), "--deploy-hook", line)
        assert hooked.exit_code == 0, hooked.output
        assert (tmp_path / "told").read_text().split() == [str(place), *NAMES]
        broken = cert(words[0], str(tmp_path / words[1]), "--deploy-hook", "echo no nginx here; exit 3")
        assert broken.exit_code == 1
        assert "ended with status 3: no nginx here" in broken.output
    assert live.read_bytes() == before


def command_for(config: Path) -> Command:
    """`gateway cert WORDS` with these settings."""
    return lambda *words: CliRunner().invoke(main, ["cert", *words, "--config", str(config)])


def table(name: str, values: Mapping[str, object]) -> str:
    lines = [
        f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else str(value))}"
        for key, value in values.items()
    ]
    return "\n".join([f"[{name}]", *lines, ""])


def as_toml(place: Place) -> str:
    return table("server", place.server()) + table("tls", place.tls())
