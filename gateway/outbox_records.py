"""Owns the files of the outbox: records that survive a crash, their locks, results, and claims on store keys."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gateway.contract import Commit, CommittedImage
from gateway.errors import StoreDown, StoreFull

log = logging.getLogger(__name__)

RESULT_KEPT_S: Final = 86400.0
HALF_WRITTEN_S: Final = 60.0  # another process may just be about to lock what it has made
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Sealed bytes and the key under which they become visible."""

    staged: str
    size: int
    sha256: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One commit to be made true in the store and told to the core. ``ticket_id`` is what clients may ask about."""

    ticket_id: str
    commit: Commit
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A delivery as it lies on disk. ``new_keys`` are those that its placing made (unknown after a crash: none)."""

    delivery: Delivery
    request_id: str
    created_ns: int
    new_keys: tuple[str, ...] = ()


class HeldRecord:
    """A record locked by this process. End with ``remove`` or ``release``."""

    def __init__(self, folder: "OutboxFolder", path: Path, file: int, record: Record) -> None:
        self._folder = folder
        self._path = path
        self._file = file
        self.record = record

    @property
    def name(self) -> str:
        """The record's file name: sorts by age."""
        return self._path.name

    def rewrite(self, record: Record) -> None:
        """Replace the record, durably; it stays locked."""
        old, self._file = self._file, self._folder.write_locked(self._path, _to_json(record))
        self.record = record
        os.close(old)

    def remove(self) -> None:
        """The delivery is over."""
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let others deliver it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class OutboxFolder:
    """``DATA_DIR/outbox``, shared by all gateway processes. Everything here blocks; files are 0600, folders 0700."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self._durable = durable
        self.pending = root / "pending"
        self.results = root / "results"
        self.broken = root / "broken"
        self._claims = root / "claims"
        self._deliverer = root / "deliverer.lock"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self.pending, self.results, self.broken, self._claims):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self, now: float) -> None:
        """Remove results after a day, and at once what a crash left half-written: that was promised to nobody."""
        self._drop_old_results(now)
        for fresh in (*self.pending.glob(".*.new"), *self.results.glob(".*.new")):
            with _locked(fresh, os.O_RDONLY, fcntl.LOCK_EX) as is_ours:
                if is_ours and now - fresh.stat().st_mtime > HALF_WRITTEN_S:
                    fresh.unlink(missing_ok=True)

    def add(self, delivery: Delivery, *, request_id: str) -> HeldRecord:
        """Write a new record, durably. It is locked from its first moment."""
        record = Record(delivery=delivery, request_id=request_id, created_ns=time.time_ns())
        path = self.pending / f"{record.created_ns:020}-{_hash(delivery.ticket_id)}.json"
        return HeldRecord(self, path, self.write_locked(path, _to_json(record)), record)

    def names(self) -> list[str]:
        """The records, oldest first."""
        return sorted(entry for entry in os.listdir(self.pending) if not entry.startswith("."))  # noqa: PTH208

    def waiting(self) -> dict[str, int]:
        """The deliveries that wait, by the ids of their tickets, and how many bytes each brought."""
        return {
            delivery.ticket_id: sum(placement.size for placement in delivery.placements)
            for delivery in self._deliveries()
        }

    def promised(self) -> set[str]:
        """The staged names that records speak of, placed or not: a sweep from outside must leave them alone."""
        return {placement.staged for delivery in self._deliveries() for placement in delivery.placements}

    def _deliveries(self) -> Iterator[Delivery]:
        try:
            names = self.names()
        except FileNotFoundError:
            return
        for name in names:
            try:
                yield _from_json((self.pending / name).read_bytes()).delivery
            except (OSError, ValueError, KeyError, TypeError):
                continue  # delivered meanwhile, or damaged: who delivers looks at it

    def hold(self, name: str) -> HeldRecord | None:
        """Lock a record, unless it is gone or another holds it. One that cannot be read is moved aside."""
        path = self.pending / name
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_still(file, path):
                os.close(file)
                return None
            return HeldRecord(self, path, file, _from_json(path.read_bytes()))
        except BlockingIOError:
            os.close(file)
        except (ValueError, KeyError, TypeError) as exc:
            self.set_aside(name, f"cannot be read ({exc!r})")
            os.close(file)
        return None

    def set_aside(self, name: str, why: str) -> None:
        """Move a record out of the way for a person to look at."""
        (self.pending / name).replace(self.broken / name)
        log.error("outbox: record %s %s; moved to %s", name, why, self.broken)

    def is_pending(self, ticket_id: str) -> bool:
        """Whether a delivery of this ticket waits."""
        return any(name.endswith(f"-{_hash(ticket_id)}.json") for name in self.names())

    @contextmanager
    def only_deliverer(self) -> Iterator[bool]:
        """True for the one process that may deliver, so that order is kept."""
        with _locked(self._deliverer, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as is_ours:
            yield is_ours

    def put_result(self, ticket_id: str, result: dict[str, Any]) -> None:
        """Keep what became of a delivery that nobody waited for."""
        path = self.results / f"{_hash(ticket_id)}.json"
        os.close(self.write_locked(path, json.dumps(result).encode()))

    def result(self, ticket_id: str) -> dict[str, Any] | None:
        """What became of it, or None."""
        try:
            value = json.loads((self.results / f"{_hash(ticket_id)}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def _drop_old_results(self, now: float) -> None:
        for path in self.results.glob("*.json"):
            try:
                if now - path.stat().st_mtime > RESULT_KEPT_S:
                    path.unlink()
            except FileNotFoundError:
                continue

    def write_locked(self, path: Path, data: bytes) -> int:
        """Write → fsync → rename → fsync of the folder; the open, locked file is returned."""
        fresh = path.with_name(f".{secrets.token_hex(8)}.new")
        file = -1
        try:
            file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            rest = memoryview(data)
            while rest:  # a disk that fills up takes a part without an error
                rest = rest[os.write(file, rest) :]
            if self._durable:
                os.fsync(file)
            fresh.replace(path)
            if self._durable:
                _fsync_folder(path.parent)
        except OSError as exc:
            if file >= 0:
                fresh.unlink(missing_ok=True)
                os.close(file)
            kind = StoreFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else StoreDown
            raise kind(detail=f"outbox: {exc}") from exc
        return file

    def claim(self, keys: tuple[str, ...]) -> "Claim":
        """Announce that a commit of these keys is on its way."""
        return Claim(sorted({self._claims / _hash(key)[:2] for key in keys}))

    def take_back(self, key: str, *, since_ns: int, delete: Callable[[str], object]) -> bool:
        """Delete ``key`` unless somebody else commits it now or has relied on it since ``since_ns``.

        When in doubt it stays: a key that no image refers to is found by ``registry gc``, an image without its
        bytes by nobody.
        """
        path = self._claims / _hash(key)[:2]
        with _locked(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as is_ours:
            if not is_ours or path.stat().st_mtime_ns >= since_ns:
                return False
            delete(key)
            return True


class Claim:
    """Shared locks on the claim files of some keys (256 files stand for all keys)."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: list[int] = []
        try:
            for path in paths:
                self._files.append(_open_claim(path))
                fcntl.flock(self._files[-1], fcntl.LOCK_SH)
        except OSError as exc:
            self.release()
            raise StoreDown(detail=f"outbox: {exc}") from exc

    def relied(self) -> None:
        """Note that an image now refers to a key that somebody else had made."""
        for file in self._files:
            now = time.time_ns()  # explicitly: the kernel's own stamp lags by a tick
            os.utime(file, ns=(now, now))

    def release(self) -> None:
        """The commit is over."""
        while self._files:
            os.close(self._files.pop())


def _open_claim(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.utime(file, ns=(0, 0))  # nobody has relied on anything yet
        return file


def _to_json(record: Record) -> bytes:
    return json.dumps({"format": _FORMAT, **asdict(record)}, separators=(",", ":")).encode()


def _from_json(data: bytes) -> Record:
    value = json.loads(data)
    if value["format"] != _FORMAT:
        raise ValueError("unknown format")
    delivery = value["delivery"]
    commit = delivery["commit"]
    return Record(
        delivery=Delivery(
            ticket_id=str(delivery["ticket_id"]),
            commit=Commit(
                ticket=str(commit["ticket"]),
                images=tuple(CommittedImage(**image) for image in commit["images"]),
            ),
            placements=tuple(Placement(**placement) for placement in delivery["placements"]),
        ),
        request_id=str(value["request_id"]),
        created_ns=int(value["created_ns"]),
        new_keys=tuple(value["new_keys"]),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_still(file: int, path: Path) -> bool:
    """Whether the open file is the one that the name means now (it may have been replaced before we had the lock)."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _fsync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(path: Path, flags: int, kind: int) -> Iterator[bool]:
    try:
        file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    else:
        yield True
    finally:
        os.close(file)
