"""Owns what the running registry does by itself, in one thread: counting downloads, forgetting what is over."""

import logging
import threading
from typing import Final

from gateway.errors import GatewayError
from registry_core.registry import Registry
from registry_core.repo import accounts, images
from registry_core.service import pull

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0
FORGET_EVERY_S: Final = 3600
_DAY_S: Final = 86_400
_KEEP_COMMITS_S: Final = 30 * _DAY_S


class Chores:
    """Runs from ``start`` to ``stop``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, with the last downloads counted."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        forget_at = 0
        while not self._ended.wait(EVERY_S):
            if self._registry.now >= forget_at:
                self._try_forget()
                forget_at = self._registry.now + FORGET_EVERY_S
            self._try_write()
        self._try_write()

    def _try_write(self) -> None:
        try:
            pull.write_downloads(self._registry)
        except GatewayError as exc:
            log.warning("downloads were not counted: %s", exc)

    def _try_forget(self) -> None:
        try:
            forget(self._registry)
        except GatewayError as exc:
            log.warning("old rows were not removed: %s", exc)


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
    return removed
