"""Owns what every use case is given: settings, database, store, secret and clock."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from gateway.contract import load_secret
from gateway.settings import Settings
from gateway.store.base import BlobStore
from registry_core.memory import ShortMemory, Tally
from registry_core.policy import Actor
from registry_core.repo.database import Database
from registry_core.repo.migrate import ensure_current

# How long a revoked token may still be believed.
REMEMBER_TOKENS_S: Final = 2.0
# A client that tries again and again is told of to webhooks once in this time.
TELL_AGAIN_S: Final = 60.0


class LazyStore:
    """The store, opened at its first use: a store that is down must not keep the registry from starting."""

    def __init__(self, opener: Callable[[], BlobStore]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._store: BlobStore | None = None

    def get(self) -> BlobStore:
        """Raises: StoreDown."""
        with self._lock:
            if self._store is None:
                self._store = self._opener()
            return self._store

    def renew_keys(self, settings: Settings) -> None:
        """Go on with the keys of newly read settings, now or when the store is opened."""
        with self._lock:
            store = self._store
            if store is None:
                self._opener = partial(_open_store, settings)
        if store is not None:
            _renew_keys(store, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One registry. ``clock`` gives epoch seconds; ``actors`` remembers tokens, ``downloads`` counts pulls,
    ``refusals`` remembers what webhooks were told of lately."""

    settings: Settings
    database: Database
    lazy_store: LazyStore
    secret: bytes
    actors: ShortMemory[Actor]
    downloads: Tally
    refusals: ShortMemory[bool]
    clock: Callable[[], float] = field(default=time.time)

    @property
    def store(self) -> BlobStore:
        """Raises: StoreDown."""
        return self.lazy_store.get()

    @property
    def now(self) -> int:
        """Epoch seconds."""
        return int(self.clock())

    @property
    def anonymous_pull(self) -> bool:
        return self.settings.registry.anonymous_pull

    def url(self, path: str) -> str:
        """A path as the world sees it."""
        return f"{self.settings.public_url}/{path.lstrip('/')}"


def open_registry(
    settings: Settings, *, store: BlobStore | None = None, clock: Callable[[], float] = time.time
) -> Registry:
    """The registry that the settings describe, its database brought to the current schema.

    Raises: DatabaseTrouble.
    """
    database = Database(settings.database_url)
    ensure_current(database)
    return Registry(
        settings=settings,
        database=database,
        lazy_store=LazyStore((lambda: store) if store is not None else (lambda: _open_store(settings))),
        secret=load_secret(settings.secret_file),
        actors=ShortMemory(ttl_s=REMEMBER_TOKENS_S, clock=clock),
        downloads=Tally(),
        refusals=ShortMemory(ttl_s=TELL_AGAIN_S, clock=clock),
        clock=clock,
    )


def _open_store(settings: Settings) -> Any:
    from gateway.store.opening import open_store  # noqa: PLC0415 – commands about accounts need no store

    return open_store(settings)


def _renew_keys(store: BlobStore, settings: Settings) -> None:
    from gateway.store.opening import renew_keys  # noqa: PLC0415 – see above

    renew_keys(store, settings)
