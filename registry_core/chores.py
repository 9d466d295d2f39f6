"""Owns what the running registry does by itself: counting downloads, cleaning up, telling webhooks."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from gateway.errors import GatewayError
from registry_core.registry import Registry
from registry_core.service import cleaning, pull, webhooks

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0
FORGET_EVERY_S: Final = 3600
CLEAN_AFTER_S: Final = 600
CLEAN_EVERY_S: Final = 86_400


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
        forget_at, clean_at = 0, self._registry.now + CLEAN_AFTER_S
        while not self._ended.wait(EVERY_S):
            now = self._registry.now
            if now >= forget_at:
                self._attempt(lambda: cleaning.forget(self._registry), "old rows were not removed")
                forget_at = now + FORGET_EVERY_S
            if now >= clean_at and self._registry.settings.storage.cleanup:
                self._attempt(lambda: cleaning.clean(self._registry, dry_run=False), "clean-up failed")
                clean_at = now + CLEAN_EVERY_S
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
        except (
            Exception
        ):  # a mistake of ours in one chore must not end all of them, unseen, until the next start
            log.exception("%s", otherwise)
