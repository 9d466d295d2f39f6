"""Owns the sweep: what dead uploads left behind goes, what was promised stays."""

import logging
import time
from collections.abc import Iterable
from typing import Final

from gateway.errors import GatewayError
from gateway.outbox import Outbox
from gateway.resumable.resource import UploadRecords
from gateway.settings_routes import Route
from gateway.store.base import BlobStore
from gateway.upload.parts import PartJournal
from gateway.upload.route_stores import RouteFiles, sweep_route_stores

log = logging.getLogger("gateway")

SWEEP_EVERY_S: Final = 3600.0
_PARTS_KEPT_S: Final = 86400.0  # a push in parts that nobody went on with for a day is over


def sweep(
    *,
    store: BlobStore,
    route_stores: Iterable[tuple[Route, RouteFiles]],
    outbox: Outbox,
    journal: PartJournal,
    uploads: UploadRecords,
) -> None:
    """Remove what nobody will go on with, after what the outbox has was made safe. Blocks."""
    count = sweep_route_stores(route_stores)
    try:
        if not outbox.recover():
            log.warning("sweep: put off until the store takes what the outbox has for it")
            return
        count += store.sweep(parts_older_than_s=_PARTS_KEPT_S)
        count += journal.sweep(older_than=time.time() - _PARTS_KEPT_S)
        count += uploads.sweep(store.discard_staged)
    except (GatewayError, OSError) as exc:
        log.warning("sweep: %s", exc)
    if count:
        log.info("sweep: removed what %d unfinished uploads left behind", count)
