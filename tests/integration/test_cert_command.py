"""``gateway cert`` against a real authority, and what it hands to other programs."""

import asyncio
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.acme_door import NAMES, Place, open_door, reluctant_place, sources


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

    def cert(*words: str) -> Result:
        return CliRunner().invoke(main, ["cert", *words, "--config", str(config)])

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

    exported = cert("export", str(tmp_path / "pairs"))
    names = ("public.crt", "private.key", "chained.pem", "domain.key")
    assert exported.output.split() == [str(tmp_path / "pairs" / name) for name in names]
    assert {path.name for path in (tmp_path / "pairs").iterdir()} == set(names)
    for certificate, key in (names[:2], names[2:]):
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            tmp_path / "pairs" / certificate, tmp_path / "pairs" / key
        )
        assert (tmp_path / "pairs" / key).stat().st_mode & 0o777 == 0o600
    assert cert("export", str(tmp_path / "one"), "--style", "minio").exit_code == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"public.crt", "private.key"}
    assert cert("export", str(tmp_path / "live" / NAMES[0]), "--style", "certbot").exit_code == 0
    live = place.data_dir / "acme" / "live.pem"
    before = live.read_bytes()
    live.unlink()
    wish = 'echo "$CERTIFICATE_FOLDER$CERTIFICATE_FILE $CERTIFICATE_NAMES" > '
    imported = cert("import", str(tmp_path), "--deploy-hook", f"{wish} {tmp_path}/on-import")
    assert imported.exit_code == 0, imported.output
    assert (tmp_path / "on-import").read_text().split() == [str(live), *NAMES]
    hooked = cert("export", str(tmp_path / "one"), "--deploy-hook", f"{wish} {tmp_path}/on-export")
    assert hooked.exit_code == 0, hooked.output
    assert (tmp_path / "on-export").read_text().split() == [str(tmp_path / "one"), *NAMES]
    for words in (("export", str(tmp_path / "one")), ("import", str(tmp_path))):
        refused = cert(*words, "--deploy-hook", "echo no nginx here; exit 3")
        assert refused.exit_code == 1
        assert "ended with status 3: no nginx here" in refused.output
    assert live.read_bytes() == before
    assert json.loads(cert("status", "--json").output)["ok"]


def as_toml(place: Place) -> str:
    def table(name: str, values: dict[str, object]) -> str:
        lines = [
            f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else str(value))}"
            for key, value in values.items()
        ]
        return "\n".join([f"[{name}]", *lines, ""])

    return table("server", place.server()) + table("tls", place.tls())
