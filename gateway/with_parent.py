"""Owns a program that ends with its parent, however that one ends: ``python -m gateway.with_parent PID COMMAND…``."""

import os
import sys

from gateway._child import die_with_parent


def main() -> None:
    """Become COMMAND; the kernel keeps in mind who the parent was."""
    parent_pid, *command = sys.argv[1:]
    die_with_parent(int(parent_pid))
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


def leashed() -> tuple[str, ...]:
    """The words before a command that shall end with this process, to be started from its main thread."""
    return (sys.executable, "-m", "gateway.with_parent", str(os.getpid()))


if __name__ == "__main__":
    main()
