"""Owns real file systems of a few megabytes, for tests of full disks. Needs root, as CI has."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(mount: Path, *, mib: int) -> Iterator[Path]:
    """A file system at ``mount``, which is made; gone with the block."""
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
