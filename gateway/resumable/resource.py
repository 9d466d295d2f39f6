"""Owns the durable state of one resumable upload, whichever protocol made it: a value, and its file.

``DATA_DIR/resumable/ID.json`` is replaced as a whole; ``ID.lock`` is held (flock) by the one request that may change
it, in whichever process; ``ID.want`` asks its holder to let go. An offset that was told to anybody is in the file, and
the bytes before it are durable.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.errors import NotFound, StoreDown, StoreFull

ID: Final = re.compile(r"[0-9a-f]{40}")
KEPT_S: Final = 86400.0  # after the last change; the store keeps parts as long (app.PARTS_KEPT_S)
USED_KEPT_S: Final = 3600.0  # a part, after it went into a final upload: it may be used twice
LARGEST_BYTES: Final = 5 << 40  # where no setting says less: the largest object of S3
_SUFFIXES: Final = (".json", ".want", ".lock")
_NO_SPACE: Final = frozenset({28, 122})  # ENOSPC, EDQUOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the target of the upload said at its end; repeated to whoever asks again."""

    status: int
    location: str = ""
    body: str = ""
    ref: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload.

    ticket: the core's sealed permission; it names user, entity and collection.
    length: of the whole file in bytes, None = not known yet.
    offset: bytes that are durable. is_closed: no more bytes come (always so in tus once the length is reached).
    most: the largest length allowed. last_offset: where the append began that came last.
    metadata, concat: tus fields, as they were sent. repr_digest: promised digests of the whole, name → hex.
    sha256: set before the core is told, so that this can be told again after a crash.
    """

    id: str
    ticket: str
    name: str = ""
    tag: str = ""
    filename: str = ""
    description: str = ""
    length: int | None = None
    offset: int = 0
    is_closed: bool = True
    most: int = LARGEST_BYTES
    last_offset: int = 0
    metadata: str = ""
    concat: str = ""
    parts: tuple[str, ...] = ()
    repr_digest: tuple[tuple[str, str], ...] = ()
    sha256: str = ""
    changed: float = 0.0
    expires: float = 0.0
    answer: Answer | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every byte is there, and no more come."""
        return self.is_closed and self.length is not None and self.offset == self.length

    @property
    def is_partial(self) -> bool:
        """Whether it is only a piece of a later, concatenated upload."""
        return self.concat == "partial"

    @property
    def is_final(self) -> bool:
        """Whether it is made of other uploads."""
        return self.concat.startswith("final;")


def new_id() -> str:
    """160 bits: the URL is the permission to go on, and fit for a staging name."""
    return secrets.token_hex(20)


def check_id(text: str) -> str:
    """Raises: NotFound."""
    if not ID.fullmatch(text):
        raise NotFound("There is no such upload, or no longer. Start it again.")
    return text


class UploadLock:
    """The right to change one upload, until ``release``."""

    def __init__(self, file: int) -> None:
        self._file = file

    def release(self) -> None:
        """Let others have it."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class UploadRecords:
    """The folder. Shared by all gateway processes. Everything here blocks, briefly."""

    def __init__(self, folder: Path, *, durable: bool, clock: Callable[[], float] = time.time) -> None:
        self._folder = str(folder)
        self._durable = durable
        self.clock = clock

    def create(self, upload: Upload) -> Upload:
        """A new one; expires by itself. Raises: StoreFull, StoreDown."""
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - the folder is a str
            os.close(os.open(self._path(upload.id, ".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise _store_fault(exc) from exc
        return self.save(upload)

    def save(self, upload: Upload, *, kept_s: float = KEPT_S) -> Upload:
        """Replace it, durably; returns it with its new times. Raises: StoreFull, StoreDown."""
        now = self.clock()
        upload = replace(upload, changed=now, expires=now + kept_s)
        path = self._path(upload.id, ".json")
        fresh = f"{path}.{secrets.token_hex(4)}"
        try:
            with open(fresh, "w", opener=_private) as file:
                json.dump(asdict(upload), file, separators=(",", ":"))
                file.flush()
                if self._durable:
                    os.fsync(file.fileno())
            os.replace(fresh, path)  # noqa: PTH105
        except OSError as exc:
            Path(fresh).unlink(missing_ok=True)
            raise _store_fault(exc) from exc
        return upload

    def shorten(self, upload: Upload, *, kept_s: float) -> None:
        """Let it end sooner, unless it is in use or gone. Raises: StoreFull, StoreDown."""
        with contextlib.suppress(NotFound):
            lock = self.try_hold(upload.id)
            if lock is not None:
                try:
                    self.save(upload, kept_s=kept_s)
                finally:
                    lock.release()

    def load(self, upload_id: str) -> Upload:
        """Raises: NotFound, also for one that has expired."""
        try:
            data = Path(self._path(check_id(upload_id), ".json")).read_bytes()
            upload = _from_json(data)
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as exc:
            raise NotFound(_GONE, detail=repr(exc)) from exc
        if upload.expires < self.clock():
            raise NotFound(_GONE, detail="expired")
        return upload

    def try_hold(self, upload_id: str) -> UploadLock | None:
        """The lock, or None while another request has it. Raises: NotFound."""
        try:
            file = os.open(self._path(check_id(upload_id), ".lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise NotFound(_GONE, detail=repr(exc)) from exc
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if not os.fstat(file).st_nlink:  # removed while we opened it
            os.close(file)
            raise NotFound(_GONE)
        return UploadLock(file)

    def want(self, upload_id: str) -> None:
        """Ask the holder, in whichever process, to let go."""
        try:
            os.close(os.open(self._path(upload_id, ".want"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise _store_fault(exc) from exc

    def is_wanted(self, upload_id: str) -> bool:
        """Whether somebody asked. One system call."""
        return os.path.exists(self._path(upload_id, ".want"))  # noqa: PTH110

    def unwant(self, upload_id: str) -> None:
        """The wish is fulfilled."""
        Path(self._path(upload_id, ".want")).unlink(missing_ok=True)

    def remove(self, upload_id: str) -> None:
        """Forget it; by its holder, the lock's file last."""
        for suffix in _SUFFIXES:
            Path(self._path(check_id(upload_id), suffix)).unlink(missing_ok=True)

    def sweep(self, discard: Callable[[str], None]) -> int:
        """Forget what has expired, and call ``discard`` with its staging name. How many. Raises: what it raises."""
        count = 0
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - the folder is a str
        except FileNotFoundError:
            return 0
        for name in names:
            upload_id, _, suffix = name.partition(".")
            if suffix == "lock" and ID.fullmatch(upload_id):
                count += self._sweep_one(upload_id, discard)
            elif suffix.startswith("json."):  # half-written by a process that died
                self._drop_old(name)
        return count

    def _sweep_one(self, upload_id: str, discard: Callable[[str], None]) -> bool:
        try:
            lock = self.try_hold(upload_id)
        except NotFound:
            return False
        if lock is None:
            return False
        try:
            if not self._is_over(upload_id):
                return False
            discard(upload_id)
            self.remove(upload_id)
            return True
        finally:
            lock.release()

    def _is_over(self, upload_id: str) -> bool:
        try:
            self.load(upload_id)
        except NotFound:
            return self._age(f"{upload_id}.lock") > KEPT_S or os.path.exists(self._path(upload_id, ".json"))  # noqa: PTH110
        return False

    def _drop_old(self, name: str) -> None:
        if self._age(name) > KEPT_S:
            Path(self._folder, name).unlink(missing_ok=True)

    def _age(self, name: str) -> float:
        try:
            return self.clock() - os.stat(f"{self._folder}/{name}").st_mtime  # noqa: PTH116
        except OSError:
            return 0.0

    def _path(self, upload_id: str, suffix: str) -> str:
        return f"{self._folder}/{upload_id}{suffix}"


_GONE: Final = "There is no such upload, or no longer. Start it again."


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _store_fault(exc: OSError) -> StoreFull | StoreDown:
    return StoreFull(detail=str(exc)) if exc.errno in _NO_SPACE else StoreDown(detail=str(exc))


def _from_json(data: bytes) -> Upload:
    value: dict[str, Any] = json.loads(data)
    answer = value.pop("answer")
    digests = tuple((str(name), str(hexed)) for name, hexed in value.pop("repr_digest"))
    parts = tuple(str(part) for part in value.pop("parts"))
    return Upload(
        **value, answer=None if answer is None else Answer(**answer), repr_digest=digests, parts=parts
    )
