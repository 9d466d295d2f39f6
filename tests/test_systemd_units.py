"""Owns the proof that systemd itself understands the units, and that what they close is closed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

UNITS: Final = Path(__file__).parents[1] / "conf" / "systemd"
INSTALLED: Final = "/opt/sregistry-gateway/bin/gateway"
# Of ten. An ordinary service has 9.6; what is left is the network, ports below 1024 and files of our own.
MOST_EXPOSED: Final = 2.5


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as shipped, but for the path of the program: it must exist to be verified."""
    copies = []
    for unit in sorted(UNITS.iterdir()):
        text = unit.read_text().replace(INSTALLED, str(Path(sys.executable).parent / "gateway"))
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text)
    return copies


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "run 'make test' as root to install what tests need"
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_has_nothing_to_say_about_the_units(units: list[Path]) -> None:
    done = _analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_little_exposed(units: list[Path]) -> None:
    (service,) = (unit for unit in units if unit.suffix == ".service")
    done = _analyze("security", "--offline=yes", "--no-pager", "--json=short", service)
    weights = [float(line["exposure"] or 0) for line in json.loads(done.stdout)]
    shown = _analyze("security", "--offline=yes", "--no-pager", service).stdout.splitlines()[-1]
    print(shown)
    level = float(shown.partition(": ")[2].split()[0])
    assert level <= MOST_EXPOSED, done.stdout
    assert weights
