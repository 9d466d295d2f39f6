"""Owns the note that a running gateway leaves of its store: a command with other settings would judge another one.

The note is a file that its writer keeps locked. A lock ends with its process however that dies, so the note of a dead
one counts for nothing. There is nothing secret in it.
"""

import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Final

from gateway.settings import Settings

_NOTE: Final = "store.json"


class StoreNote:
    """The note of this process, for as long as it lives."""

    def __init__(self, settings: Settings) -> None:
        """Leave it, in place of the one of a process that gives way to this one. Raises: OSError."""
        folder = settings.data_dir / "run"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f".{_NOTE}-{secrets.token_hex(4)}"
        self._fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.write(self._fd, json.dumps(_note_of(settings)).encode())
            fresh.rename(folder / _NOTE)
        except BaseException:
            fresh.unlink(missing_ok=True)
            self.close()
            raise

    def close(self) -> None:
        """From here on it counts for nothing."""
        os.close(self._fd)


def other_store(settings: Settings) -> str:
    """Why these settings must not be used for the images of the gateway that runs on the same data folder; or ""."""
    theirs = _read(settings.data_dir / "run" / _NOTE)
    ours = _note_of(settings)
    if theirs is None or theirs == ours:
        return ""
    return (
        f"the gateway that runs on {settings.data_dir.absolute()} keeps its images {_words(theirs)}, and these settings"
        f" say {_words(ours)}: that is the wrong store to look into"
    )


def _note_of(settings: Settings) -> dict[str, str]:
    # Neither folder nor server: in a container, and beside it, one and the same may have two names.
    kind = settings.storage.kind
    return {"kind": kind, "bucket": settings.storage.s3.bucket if kind == "s3" else ""}


def _words(note: dict[str, str]) -> str:
    return f"in S3 (bucket {note['bucket']})" if note["kind"] == "s3" else "on disk"


def _read(path: Path) -> dict[str, str] | None:
    """The note of a process that lives."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = json.load(file)
            else:
                return None
        return {"kind": str(said["kind"]), "bucket": str(said["bucket"])}
    except (OSError, ValueError, LookupError, TypeError):
        return None
