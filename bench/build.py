"""Owns the building of the C programs: the yardstick and the load generator."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_BIN: Final = _HERE / "bin"
_FLAGS: Final = ("-O2", "-std=gnu17", "-Wall", "-Wextra", "-D_GNU_SOURCE")
_LIBRARIES: Final = ("-lssl", "-lcrypto", "-lpthread")


def build(name: str) -> Path:
    """The program ``name`` (``sink``, ``load`` or ``storm``), compiled when its source is newer."""
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is missing: run 'make bench' as root, it installs what is needed")
    sources = [_HERE / "c" / f"{name}.c", _HERE / "c" / "wire.c"]
    program = _BIN / name
    newest = max(path.stat().st_mtime for path in [*sources, _HERE / "c" / "wire.h"])
    if not program.exists() or program.stat().st_mtime < newest:
        _BIN.mkdir(exist_ok=True)
        command = ["gcc", *_FLAGS, *map(str, sources), "-o", str(program), *_LIBRARIES]
        subprocess.run(command, check=True)
    return program
