"""Owns the first moments of a child process: it ends with its parent, and has a process group of its own.

Run as ``python -m gateway._child PARENT_PID MODULE ARGUMENT…``. A module of its own rather than ``preexec_fn``,
which runs Python between fork and exec and is not safe in a process with threads.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

from gateway.early import note_early

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent is gone, however that one ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(1)  # it went before we asked


def main() -> None:
    """Become MODULE."""
    # It asks the first process for an upgrade (``systemctl kill`` tells all of them): it must not end the others.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    note_early(signal.SIGHUP)
    parent_pid, module, *arguments = sys.argv[1:]
    die_with_parent(int(parent_pid))
    os.setpgid(0, 0)  # Ctrl-C in a terminal is the parent's to handle: it stops its children in order
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
