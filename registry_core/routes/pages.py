"""Owns the list of everything that people see in a browser."""

from collections.abc import Sequence

from starlette.routing import Route

from registry_core.routes import (
    pages_account,
    pages_admin,
    pages_browse,
    pages_collection,
    pages_image,
    pages_sign_in,
    pages_upload,
)
from registry_core.routes.pages_frame import Site


def routes(site: Site) -> Sequence[Route]:
    """The pages' routes."""
    return (
        site.assets.route(),
        *pages_browse.routes(site),
        *pages_collection.routes(site),
        *pages_image.routes(site),
        *pages_upload.routes(site),
        *pages_sign_in.routes(site),
        *pages_account.routes(site),
        *pages_admin.routes(site),
    )
