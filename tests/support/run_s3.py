"""Owns `make run-s3`: `make run` with an S3 server of its own, for trying things out. All end together,
also when this process is killed.

The server is SeaweedFS on loopback, its data in the data folder, its keys new at each start. ``environment`` in the
data folder has the settings for other commands.
"""

import argparse
import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.with_parent import leashed
from tests.support.seaweed import running_seaweed


def main() -> int:
    """Run until the gateway ends; its exit status."""
    parser = argparse.ArgumentParser(prog="make run-s3", description="A working registry, its images in S3.")
    parser.add_argument("--data-dir", type=Path, default=Path("data-s3"))
    parser.add_argument("--http", default="127.0.0.1:8080")
    parser.add_argument("--https", default="127.0.0.1:8443")
    given = parser.parse_args()
    data_dir = given.data_dir.absolute()
    folder = data_dir / "seaweedfs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # also while S3 starts: nothing is left running
    access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
    with running_seaweed(folder, keys=(access_key, secret_key), prefix=leashed()) as server:
        settings = {
            "GATEWAY_SERVER__DATA_DIR": str(data_dir),
            "GATEWAY_SERVER__HTTP": given.http,
            "GATEWAY_SERVER__HTTPS": given.https,
            "GATEWAY_STORAGE__KIND": "s3",
            "MINIO_SERVER": server.endpoint,
            "MINIO_EXTERNAL_SERVER": server.endpoint,
            "MINIO_ROOT_USER": access_key,
            "MINIO_ROOT_PASSWORD": secret_key,
        }
        environment = write_environment(data_dir / "environment", settings)
        print(
            f"S3 answers at http://{server.endpoint}/ (access key {access_key}, secret key {secret_key})\n"
            f"For other commands, in their shell: . {shlex.quote(str(environment))}",
            flush=True,
        )
        command = [*leashed(), sys.executable, "-m", "gateway.first_run", "--data-dir", str(data_dir)]
        registry = subprocess.Popen(
            [*command, "--http", given.http, "--https", given.https], env={**os.environ, **settings}
        )
        # Ctrl-C reaches it by itself (same terminal); a plain kill of this process has to be passed on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: registry.terminate())
        # The server is killed then: it takes 25 s to end in order, and what it has written stays.
        return registry.wait()


def write_environment(path: Path, settings: Mapping[str, str]) -> Path:
    """The settings as lines that a shell can read, for its owner only: there are keys in it."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(lines)
    return fresh.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
