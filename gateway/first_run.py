"""Owns `make run`: the product from nothing, its first account, and the words that tell how to use it.

It starts `gateway serve` as a user would, waits until it is ready, makes one administrator with a generated
password, and prints where everything is. A second run finds the account and only says so.
"""

import argparse
import re
import secrets
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from gateway.with_parent import leashed

_BIN: Final = Path(sys.executable).parent
_ADMIN: Final = "admin"
_READY_S: Final = 60.0
_RETRY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The first account. ``password`` and ``token`` are "" when it was made by an earlier run."""

    name: str
    password: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the product runs."""

    data_dir: Path
    http: str
    https: str

    @property
    def url(self) -> str:
        """What users type."""
        return f"https://localhost:{self.https.rpartition(':')[2]}"

    @property
    def ca(self) -> Path:
        """The certificate that clients have to trust."""
        return self.data_dir / "tls" / "ca.crt"

    @property
    def marker(self) -> Path:
        """There once the first account is made."""
        return self.data_dir / "first-run-done"


def main() -> int:
    """Run until the gateway ends; its exit status."""
    place = _read_arguments()
    place.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    serve = [
        _BIN / "gateway",
        "serve",
        "--data-dir",
        place.data_dir,
        "--http",
        place.http,
        "--https",
        place.https,
    ]
    gateway = subprocess.Popen([*leashed(), *map(str, serve)])  # noqa: S603 - our own command
    # Ctrl-C reaches the gateway by itself (same terminal); a plain kill of this process has to be passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: gateway.terminate())
    try:
        if _wait_ready(place, gateway):
            click.echo(welcome(place, _first_account(place)))
    except subprocess.CalledProcessError as exc:
        click.echo(f"first run: {exc.cmd[1]} {exc.cmd[2]} failed: {exc.stderr.strip()}", err=True)
        gateway.terminate()
    return gateway.wait()


def _read_arguments() -> Place:
    parser = argparse.ArgumentParser(prog="make run", description="A working registry from nothing.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--http", default="127.0.0.1:8080")
    parser.add_argument("--https", default="127.0.0.1:8443")
    given = parser.parse_args()
    return Place(data_dir=given.data_dir.absolute(), http=given.http, https=given.https)


def _wait_ready(place: Place, gateway: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _READY_S
    while gateway.poll() is None:
        if _is_ready(place):
            return True
        if time.monotonic() > deadline:
            click.echo(f"first run: not ready after {_READY_S:.0f} s; see the log above", err=True)
            return False
        time.sleep(_RETRY_S)
    return False


def _is_ready(place: Place) -> bool:
    try:
        trust = ssl.create_default_context(cafile=str(place.ca))
        with urllib.request.urlopen(f"{place.url}/-/readyz", context=trust, timeout=5) as answer:  # noqa: S310
            return int(answer.status) == 200  # noqa: PLR2004
    except (OSError, urllib.error.URLError):
        return False


def _first_account(place: Place) -> Account:
    if place.marker.exists():
        return Account(name=_ADMIN)
    password = "-".join(secrets.token_hex(3) for _ in range(4))
    try:
        _registry(place, "user", "add", _ADMIN, "--admin", "--password-stdin", said=f"{password}\n")
    except subprocess.CalledProcessError as exc:
        # Made by hand, or by a run that was stopped in between: its password is known, or lost.
        if not re.search(r"exist|taken|already", exc.stderr, re.IGNORECASE):
            raise
        password = ""
    token = _registry(place, "token", "create", _ADMIN, "--scope", "push")
    place.marker.touch(mode=0o600)
    return Account(name=_ADMIN, password=password, token=token)


def _registry(place: Place, *words: str, said: str = "") -> str:
    command = [str(_BIN / "registry"), *words, "--data-dir", str(place.data_dir)]
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()


def welcome(place: Place, account: Account) -> str:
    """What a person needs to begin."""
    token = account.token or "TOKEN"
    port = place.https.rpartition(":")[2]
    secret = (
        f"  Password        {account.password or '(yours)'}   (shown once)\n  Push token      {token}\n"
        if account.token
        else f"  Another token   .venv/bin/registry token create {account.name} --data-dir {place.data_dir}\n"
    )
    return f"""
The registry is up.

  Web             {place.url}/   (http://localhost:{place.http.rpartition(":")[2]} leads there)
  User            {account.name}
{secret}  CA to trust     {place.ca}

Push from the command line:

  curl --cacert {place.ca} -H 'Authorization: Bearer {token}' \\
    -F name=tool -F tag=v1 -F file=@tool.sif '{place.url}/upload?collection={account.name}/test'

Push and pull with Apptainer or Singularity. `remote add` takes no port, so put this into
~/.apptainer/remote.yaml (Singularity: ~/.singularity/remote.yaml), mode 0600:

  Active: here
  Remotes:
    here:
      URI: //localhost:{port}
      Token: {token}
      System: false

  export SSL_CERT_FILE={place.ca}
  apptainer push -U tool.sif library://{account.name}/test/tool:v1
  apptainer pull library://{account.name}/test/tool:v1

Stop with Ctrl-C. Everything is kept in {place.data_dir}.
"""


if __name__ == "__main__":
    raise SystemExit(main())
