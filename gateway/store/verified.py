"""Owns the memory of a migration: whose bytes were read in the target and are right, as long as they look the same.

One line for each, added as it is found out: a run that is killed loses at most the last one.
"""

from contextlib import suppress
from pathlib import Path

from gateway.store.base import BlobStat


class Verified:
    """Keys with the size and the time that they had. Without a file, forgotten with the process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: set[str] = set()
        if file is not None:
            with suppress(FileNotFoundError):
                self._known = set(file.read_text(encoding="utf-8").splitlines())

    def knows(self, key: str, stat: BlobStat) -> bool:
        """Whether it was read, and nobody wrote to it since."""
        return _line(key, stat) in self._known

    def add(self, key: str, stat: BlobStat) -> None:
        """It was read, and is right. ``stat`` is from before the reading. Raises: OSError."""
        line = _line(key, stat)
        self._known.add(line)
        if self._file is not None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    def forget(self) -> None:
        """All of it: the next run reads everything anew."""
        self._known.clear()
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _line(key: str, stat: BlobStat) -> str:
    return f"{stat.size} {stat.modified!r} {key}"
