"""Owns a PostgreSQL server for tests: Debian's, in a temporary folder, on a unix socket only."""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running server; ``new_database`` gives the URL of an empty database."""

    folder: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://registry@/{database}?host={self.folder}"

    def new_database(self) -> str:
        name = f"test_{secrets.token_hex(6)}"
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)


def find_binaries() -> Path:
    """Where Debian puts the newest server. Raises: FileNotFoundError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise FileNotFoundError("PostgreSQL is missing: apt-get install postgresql")
    return found[-1].parent


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the time of the block. As root it runs as nobody, for it refuses to be root."""
    binaries = find_binaries()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-", dir=_memory(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        base = folder / "data"
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        subprocess.run(
            [binaries / "initdb", "-D", base, "-U", "registry", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"],
            check=True, capture_output=True, cwd=folder, **as_user,  # type: ignore[call-overload] # see above
        )  # fmt: skip
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=200",
            "-k",
            str(folder),
        ]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", base, *options],
                stdout=log, stderr=log, cwd=folder, **as_user,  # type: ignore[call-overload]
            )  # fmt: skip
        try:
            _wait_ready(binaries, folder, server)
            yield PostgresServer(folder=folder)
        finally:
            server.terminate()
            server.wait(timeout=30)
            shutil.rmtree(base, ignore_errors=True)


def _memory() -> str | None:
    """A folder in memory, if there is one: a test's database need not outlive the machine."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _wait_ready(binaries: Path, folder: Path, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        asked = subprocess.run([binaries / "pg_isready", "-h", folder, "-q", "-t", "1"], check=False)
        if asked.returncode == 0:
            return
        if server.poll() is not None:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.1)
    raise RuntimeError((folder / "log").read_text())
