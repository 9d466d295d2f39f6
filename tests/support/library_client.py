"""Owns the real library client of tests/conformance/library_client: built once, run as a person would."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SOURCE: Final = Path(__file__).parents[1] / "conformance" / "library_client"
_BIN: Final = _SOURCE.parent / "bin"
_DEBIAN_GOPATH: Final = Path("/usr/share/gocode")


def build_library_client() -> Path:
    """The program, built from our source and Debian's packages (0.1 s when nothing changed)."""
    go = shutil.which("go")
    if go is None or not (_DEBIAN_GOPATH / "src/github.com/apptainer/container-library-client").is_dir():
        raise RuntimeError("cannot build the Go client: run 'make test' as root to install what it needs")
    workspace = _BIN / "gopath" / "src"
    workspace.mkdir(parents=True, exist_ok=True)
    link = workspace / "library_client"
    if link.resolve() != _SOURCE:
        link.unlink(missing_ok=True)
        link.symlink_to(_SOURCE)
    program = _BIN / "library_client"
    environ = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": f"{_BIN / 'gopath'}:{_DEBIAN_GOPATH}",
        "GOCACHE": str(_BIN / "gocache"),
        "CGO_ENABLED": "0",
    }
    command = [go, "build", "-trimpath", "-o", str(program), "library_client"]
    built = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=_SOURCE)
    if built.returncode:
        raise RuntimeError(f"go build failed:\n{built.stderr}")
    return program


class ClientFailed(Exception):
    """The client said no; the message is what a user would see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryClient:
    """The client for one server and one token."""

    program: Path
    base: str
    ca: Path
    token: str = ""

    def run(self, *words: str | Path, **flags: str | int) -> dict[str, Any]:
        """Run one command. Raises: ClientFailed with the client's own words."""
        done = subprocess.run(
            self.command(*words, **flags),
            env={**os.environ, "SSL_CERT_FILE": str(self.ca)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise ClientFailed(done.stderr.strip())
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def command(self, *words: str | Path, **flags: str | int) -> list[str]:
        """The command line, for tests that run it themselves."""
        options = {"base": self.base, "token": self.token, **flags}
        return [str(self.program), *(f"-{name}={value}" for name, value in options.items()), *map(str, words)]
