"""Owns the deploy hook: an administrator's own command, run by the shell after a certificate changed hands."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Final

from gateway.net.openssl_policy import without_openssl_policy

HOOK_S: Final = 120.0
_SAID_CHARS: Final = 300


def run_hook(command: str, told: Mapping[str, str], *, patience_s: float = HOOK_S) -> str:
    """Run the command with ``told`` added to the environment. Returns "", or what went wrong."""
    if not command:
        return ""
    environment = {**without_openssl_policy(os.environ), **told}
    # Into a file, not a pipe: a service that the hook leaves running would hold a pipe open, and us with it.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(  # noqa: S603 - the administrator's own command
                ["/bin/sh", "-c", command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # so that what it started can be ended with it
            )
        except (OSError, ValueError) as exc:
            return f"The deploy hook could not be run: {exc}."
        try:
            status = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"The deploy hook was ended: it took longer than {patience_s:.0f} seconds."
        if status == 0:
            return ""
        said.seek(0)
        last = said.read().decode(errors="replace").strip()[-_SAID_CHARS:]
    return f"The deploy hook ended with status {status}: {last}"
