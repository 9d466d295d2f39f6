"""Owns garbage collection: what no image refers to any more goes, after a window in which it could come back."""

from dataclasses import dataclass
from typing import Final

from gateway.errors import BlobMissing
from registry_core.model import Trashed
from registry_core.registry import Registry
from registry_core.repo import accounts, hooks, images, journal

_DAY_S: Final = 86_400
_KEEP_COMMITS_S: Final = 30 * _DAY_S
# Bytes without a key may be between their arrival and getting one.
_YOUNG_S: Final = 3600
_STALE_PARTS_S: Final = 7 * _DAY_S
# Few at a time, so that pushes are not held up for long.
_BATCH: Final = 50
_BY: Final = "(clean-up)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What was (or would be) done. ``waiting`` keys are in the trash and stay for now."""

    removed_keys: tuple[str, ...]
    new_orphans: tuple[str, ...]
    waiting: int
    freed_bytes: int
    unfinished: int
    swept: int


def clean(registry: Registry, *, dry_run: bool) -> Cleaned:
    """Empty the trash as far as its window is over, throw keys nobody knows into it, free what is left.

    Raises: StoreDown, DatabaseDown.
    """
    window = int(registry.settings.registry.trash_s)
    with registry.database.read() as db:
        due = journal.trashed(db, before=registry.now - window + 1)
        live = images.keys_in_use(db)
    dead = [one for one in due if one.key not in live]
    orphans = _orphans(registry, live)
    unfinished, swept = 0, 0
    if not dry_run:
        unfinished = forget(registry)
        _throw_away(registry, orphans)
        for start in range(0, len(due), _BATCH):
            _empty(registry, due[start : start + _BATCH])
        swept = registry.store.sweep(parts_older_than_s=_STALE_PARTS_S)
    freed = registry.store.collect(older_than_s=_YOUNG_S, dry_run=dry_run)
    if dry_run:
        freed += _size_of_last_keys(registry, dead)
    with registry.database.read() as db:
        waiting = len(journal.trashed(db)) - (len(due) if dry_run else 0)
    return Cleaned(
        removed_keys=tuple(one.key for one in dead),
        new_orphans=tuple(orphans),
        waiting=waiting,
        freed_bytes=freed,
        unfinished=unfinished,
        swept=swept,
    )


def _orphans(registry: Registry, live: set[str]) -> list[str]:
    """Keys of the store that no image has and that are not in the trash yet."""
    with registry.database.read() as db:
        known = live | {one.key for one in journal.trashed(db)}
    stored = registry.store.keys()
    return [key for key in stored if key not in known]


def _throw_away(registry: Registry, keys: list[str]) -> None:
    """An orphan may belong to a commit on its way: it waits in the trash like everything else."""
    for key in keys:
        try:
            size = registry.store.stat(key).size
        except BlobMissing:
            continue
        with registry.database.write() as db:
            registry.database.own_store(db)
            if not images.key_in_use(db, key):
                journal.add_trash(
                    db,
                    key=key,
                    sha256=key.rpartition(".")[2],
                    size=size,
                    deleted_by=_BY,
                    deleted_at=registry.now,
                )


def _empty(registry: Registry, batch: list[Trashed]) -> None:
    with registry.database.write() as db:
        registry.database.own_store(db)
        # Whatever was listed again since the first look has left the trash.
        still = {one.id for one in journal.trashed(db)}
        for one in batch:
            if one.id in still and not images.key_in_use(db, one.key):
                registry.store.delete(one.key)
        journal.forget_trash(db, [one.id for one in batch])


def _size_of_last_keys(registry: Registry, dead: list[Trashed]) -> int:
    """How many bytes go when these keys go: those whose digest no other key has."""
    going = {one.key for one in dead}
    stored = registry.store.keys()
    staying = {key.rpartition(".")[2] for key in stored if key not in going}
    return sum({one.sha256: one.size for one in dead if one.sha256 not in staying}.values())


def forget(registry: Registry) -> int:
    """Remove rows that are over: sessions, answers to commits, pushes whose bytes never came (returns how many)."""
    now = registry.now
    # A granted upload may begin until its ticket ends, and then takes its time.
    old = now - int(registry.settings.registry.ticket_s) - _DAY_S
    with registry.database.write() as db:
        accounts.delete_expired(db, now)
        images.delete_old_commits(db, before=now - _KEEP_COMMITS_S)
        removed = images.delete_unfinished(db, before=old)
        images.delete_old_uploads(db, before=old)
        hooks.delete_old_deliveries(db, before=now - _KEEP_COMMITS_S)
        hooks.delete_retired_hooks(db)
    return removed
