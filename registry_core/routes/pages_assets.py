"""Owns the files that pages need (style, scripts, icon): read once, named by their content, cached for ever."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.contract import STATIC_CACHE, STATIC_PREFIX, STATIC_TYPES, static_etag, static_version
from gateway.errors import NotFound

FOLDER: Final = Path(__file__).parents[1] / "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """``version`` changes with any byte of any file, so that scripts may import each other by relative names."""

    files: Mapping[str, bytes]
    version: str

    def url(self, name: str) -> str:
        """Where a file is."""
        if name not in self.files:
            raise KeyError(name)
        return f"{STATIC_PREFIX}{self.version}/{name}"

    def route(self) -> Route:
        """Serves the files."""
        return Route(STATIC_PREFIX + "{version}/{name}", self._answer, methods=["GET"])

    async def _answer(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self.files.get(name)
        if content is None:
            raise NotFound
        etag = static_etag(content)
        # A page of the version before this one may still ask: it gets the file, but must not keep it.
        current = request.path_params["version"] == self.version
        headers = {
            "etag": etag,
            "cache-control": STATIC_CACHE if current else "no-cache",
            "x-content-type-options": "nosniff",
        }
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=STATIC_TYPES[Path(name).suffix])


def load_assets(folder: Path = FOLDER) -> Assets:
    """Every file of a known kind in ``folder``."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in STATIC_TYPES}
    return Assets(files=files, version=static_version(files))
