"""Owns the choice of where an upload route's files go: a folder, or a bucket."""

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.settings_routes import Route
from gateway.store.base import BlobStore, BlobWriter, StagedUpload
from gateway.upload.route_store import RouteStore, new_name

if TYPE_CHECKING:
    from gateway.store.s3_memory import Buffers

log = logging.getLogger("gateway.upload")

# In the data folder: which uploads are alive, and parts that there is no memory for.
_S3_FOLDER: Final = "s3-routes"


class RouteFiles(Protocol):
    """Files of one route, which a backend takes over. Blocking, for worker threads; one writer belongs to one."""

    @property
    def waits_for_disk(self) -> bool:
        """Whether sealing a small file waits for more than the kernel's memory."""
        ...

    def create(self, staged: str, *, size_hint: int | None) -> BlobWriter:
        """Begin a file, which is where ``path_of`` says once it is sealed. Raises: StoreFull, StoreDown."""
        ...

    def path_of(self, name: str) -> str:
        """What the backend is told as ``$upload_tmp_path``."""
        ...

    def incoming(self) -> Iterator[StagedUpload]:
        """The files on their way in, and left over, but for small ones that are read whole. Raises: StoreDown."""
        ...

    def free_bytes(self) -> int | None:
        """Room for new files, None = not known."""
        ...

    def sweep(self, *, older_than_s: float) -> int:
        """Remove what dead processes left behind, and whole files older than this (0 = none); returns how many.

        Raises: StoreDown.
        """
        ...


def renew_route_keys(stores: Iterable[tuple[Route, RouteFiles]], settings: Settings) -> None:
    """Let the stores in S3 go on with the keys of newly read settings. Whatever runs goes on."""
    for route, store in stores:
        if route.store_s3:
            from gateway.upload.route_s3 import S3RouteStore  # noqa: PLC0415 - see below

            if isinstance(store, S3RouteStore):
                store.take_keys(settings.storage.s3)


def sweep_route_stores(stores: Iterable[tuple[Route, RouteFiles]]) -> int:
    """Sweep each, whatever became of the one before; returns how many files were removed. Blocks."""
    removed = 0
    for route, store in stores:
        try:
            removed += store.sweep(older_than_s=route.keep_hours * 3600)
        except (GatewayError, OSError) as exc:
            log.warning("sweep: the route %s: %s", route.place, exc)
    return removed


type RouteStores = list[tuple[Route, RouteFiles]]


def open_route_stores(
    settings: Settings, images: BlobStore, before: RouteStores | None = None
) -> RouteStores:
    """The store of each upload route. All that is on its way to S3, ``images`` too, shares one bound of memory.

    ``before``: those of other settings; what serves the same route goes on.
    """
    routes = [route for route in settings.routes if route.action == "upload"]
    before = before or []
    buffers = _shared_buffers(settings, images, before) if any(route.store_s3 for route in routes) else None
    kept = [next((store for known, store in before if known == route), None) for route in routes]
    return [
        (route, store or open_route_store(route, settings, buffers))
        for route, store in zip(routes, kept, strict=True)
    ]


def resize_buffers(stores: Iterable[object], budget_bytes: int) -> None:
    """Let what is on its way to S3 take so much memory from now on."""
    for store in stores:
        buffers = getattr(store, "buffers", None)  # a folder has none
        if buffers is not None:
            buffers.resize(budget_bytes)


def _shared_buffers(
    settings: Settings, images: BlobStore | None, before: Iterable[tuple[Route, RouteFiles]] = ()
) -> "Buffers":
    from gateway.store.s3_memory import Buffers  # noqa: PLC0415 - see below
    from gateway.store.s3_store import S3Store  # noqa: PLC0415
    from gateway.upload.route_s3 import S3RouteStore  # noqa: PLC0415

    if isinstance(images, S3Store):
        return images.buffers
    for _, store in before:
        if isinstance(store, S3RouteStore):
            return store.buffers
    return Buffers(
        settings.part_bytes, part_bytes=settings.storage.s3.part_bytes, folder=settings.data_dir / _S3_FOLDER
    )


def open_route_store(route: Route, settings: Settings, buffers: "Buffers | None" = None) -> RouteFiles:
    """The store of an upload route, with memory of its own unless ``buffers`` are shared.

    Nothing is made or dialled yet.
    """
    if route.store_s3:
        # Not with the module: a folder has no use for an HTTP client.
        from gateway.upload.route_s3 import open_s3_route_store  # noqa: PLC0415

        return open_s3_route_store(
            route.store_s3,
            settings.storage.s3,
            spool=settings.data_dir / _S3_FOLDER,
            buffers=buffers or _shared_buffers(settings, None),
        )
    assert route.store is not None  # noqa: S101 - the settings demand one of the two
    return RouteStore(
        route.store,
        levels=route.store_levels,
        access=route.store_access,
        reserve_bytes=route.reserve_bytes,
        fsync=route.fsync,
    )


def check_route_store(route: Route, settings: Settings) -> str:
    """Prove by use that files can be put there and taken away; a short description. Raises: StoreDown, StoreFull."""
    store = open_route_store(route, settings)
    where = route.store_s3 or route.store
    if route.store is not None and not route.store.exists():
        return f"{where} is not there yet: it is made with the first file"
    writer = store.create(new_name(), size_hint=None)
    try:
        writer.write(b"probe")
        writer.seal()
    finally:
        writer.discard()
    free = store.free_bytes()
    return f"{where}: writable" + ("" if free is None else f", {free / 2**30:.1f} GiB free for files")
