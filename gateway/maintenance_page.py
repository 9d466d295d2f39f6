"""Owns the page of a maintenance: which file it is, its placeholders, and the files that come with it."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from gateway.contract import STATIC_TYPES
from gateway.http.reply import Reply
from gateway.settings_source import PAGE_NAMES

ASSET_PREFIX: Final = "/maintenance/"
# An answer is made in memory, and this is a page's style and pictures, not a download.
_MOST_ASSET_BYTES: Final = 2 << 20  # it is read between two requests
_PLACEHOLDER: Final = re.compile(r"\{\{[ \t]*([a-z_]+)[ \t]*\}\}")
_ASSET_TYPES: Final = {
    **STATIC_TYPES,
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".otf": "font/otf",
    ".png": "image/png",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


class MaintenancePage:
    """The built-in page or one's own, read once."""

    def __init__(self, page: Path | None) -> None:
        """``page``: a file, a folder, or None for the built-in one. Raises: OSError when it cannot be read."""
        self._folder = page if page is not None and page.is_dir() else None
        # A wrong byte must not keep the front door from opening; 'gateway check' tells of it.
        self._text = page_file(page).read_text(encoding="utf-8", errors="replace")

    def render(self, values: Mapping[str, str]) -> str:
        """The page with its placeholders replaced, once: what a message contains is never one itself."""
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), self._text)

    def asset(self, path: str) -> Reply | None:
        """The file that a URL's path names in the folder (``/maintenance/assets/page.css``), or None."""
        if self._folder is None or not path.startswith(ASSET_PREFIX):
            return None
        steps = [unquote(step) for step in path.removeprefix(ASSET_PREFIX).split("/")]
        kind = _ASSET_TYPES.get(Path(steps[-1]).suffix.lower())
        if kind is None or not all(map(_is_name, steps)):
            return None
        body = _content_within(self._folder, steps)
        if body is None:
            return None
        fields = (
            ("content-type", kind),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-cache"),  # the next maintenance may have another page
        )
        return Reply(status=200, fields=fields, body=body)


def _is_name(step: str) -> bool:
    """Whether it may name a file or folder: no ``..``, nothing hidden, no separator that was percent-encoded."""
    return bool(step) and step[0] != "." and step.isprintable() and "/" not in step and "\\" not in step


def _content_within(folder: Path, steps: list[str]) -> bytes | None:
    """The bytes of a regular file that really lies in ``folder``, wherever links lead; else None."""
    try:
        file = folder.joinpath(*steps).resolve(strict=True)
        if not file.is_relative_to(folder.resolve(strict=True)):
            return None
        # Without O_NONBLOCK a pipe would be waited for; without O_NOFOLLOW a link made just now would be followed.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as opened:  # noqa: PTH123 - a descriptor, not a path
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST_ASSET_BYTES:
                return None
            return opened.read(_MOST_ASSET_BYTES)
    except OSError:
        return None


def page_file(page: Path | None) -> Path:
    """The page: one's own (a file, or a folder with 503.html or index.html), or the built-in one."""
    if page is None:
        packed = Path(__file__).parent / "maintenance_pages" / "index.html"
        return packed if packed.is_file() else Path(__file__).parent.parent / "maintenance" / "index.html"
    if page.is_dir():
        first, second = (page / name for name in PAGE_NAMES)
        return first if first.is_file() else second
    return page
