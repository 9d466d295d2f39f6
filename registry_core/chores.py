"""Owns what the running registry does by itself: counting downloads, forgetting what is over, telling webhooks."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from gateway.errors import GatewayError
from registry_core.registry import Registry
from registry_core.repo import accounts, hooks, images
from registry_core.service import pull, webhooks

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0
FORGET_EVERY_S: Final = 3600
_DAY_S: Final = 86_400
_KEEP_COMMITS_S: Final = 30 * _DAY_S


class Chores:
    """Two threads from ``start`` to ``stop``: one for the database, one for receivers that may be slow."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_house, name="chores", daemon=True),
            threading.Thread(target=self._tell, name="webhooks", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, with the last downloads counted. A webhook on its way is not waited for: it will be sent again."""
        self._ended.set()
        self._threads[0].join()

    def _keep_house(self) -> None:
        forget_at = 0
        while not self._ended.wait(EVERY_S):
            if self._registry.now >= forget_at:
                self._attempt(lambda: forget(self._registry), "old rows were not removed")
                forget_at = self._registry.now + FORGET_EVERY_S
            self._count()
        self._count()

    def _count(self) -> None:
        self._attempt(lambda: pull.write_downloads(self._registry), "downloads were not counted")

    def _tell(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._attempt(lambda: webhooks.deliver_due(self._registry), "webhooks were not told")

    def _attempt(self, chore: Callable[[], object], otherwise: str) -> None:
        try:
            chore()
        except GatewayError as exc:
            log.warning("%s: %s", otherwise, exc)


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
    return removed
