"""Owns the making of real SIF images for tests: small with a file system inside, or large and random."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal

type Arch = Literal["amd64", "arm64"]

# siftool's numbers (sif.h): partition data, primary system partition, and the file systems it may hold.
_DATATYPE_PARTITION: Final = "4"
_PARTTYPE_PRIMARY: Final = "2"
_FS_SQUASH: Final = "1"
_FS_RAW: Final = "4"
_ARCH: Final = {"amd64": "2", "arm64": "4"}
_BLOCK_BYTES: Final = 1 << 20


def make_small_sif(path: Path, *, arch: Arch = "amd64", says: str = "hello") -> Path:
    """A real image of about 50 KiB: a squashed root file system with a program and a file that ``says``."""
    root = path.with_suffix(".rootfs")
    squashed = path.with_suffix(".squashfs")
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    shutil.copy("/bin/true", root / "bin" / "true")
    (root / "etc" / "motd").write_text(f"{says}\n")
    _run("mksquashfs", root, squashed, "-noappend", "-all-root", "-quiet", "-no-progress")
    _wrap(path, squashed, arch=arch, file_system=_FS_SQUASH)
    shutil.rmtree(root)
    squashed.unlink()
    return path


def make_sif(path: Path, *, size_bytes: int, arch: Arch = "amd64") -> Path:
    """A valid image whose one partition is ``size_bytes`` of random bytes."""
    raw = path.with_suffix(".raw")
    write_random(raw, size_bytes)
    _wrap(path, raw, arch=arch, file_system=_FS_RAW)
    raw.unlink()
    return path


def write_random(path: Path, size_bytes: int) -> Path:
    """``size_bytes`` of random bytes; beyond 16 MiB one random block is varied, so that it costs no time."""
    block = bytearray(os.urandom(min(size_bytes, 16 * _BLOCK_BYTES)))
    with path.open("wb") as file:
        written = 0
        while written < size_bytes:
            block[:8] = written.to_bytes(8, "little")
            written += file.write(memoryview(block)[: size_bytes - written])
    return path


def _wrap(path: Path, partition: Path, *, arch: Arch, file_system: str) -> None:
    _run("siftool", "new", path)
    _run(
        "siftool", "add", "--datatype", _DATATYPE_PARTITION, "--parttype", _PARTTYPE_PRIMARY,
        "--partfs", file_system, "--partarch", _ARCH[arch], "--groupid", "1", path, partition,
    )  # fmt: skip


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}): {done.stderr or done.stdout}")
