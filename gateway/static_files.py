"""Owns the files that the registry's pages need, as the gateway answers them without the core.

They are packed with the core, in the same release as this gateway: their bytes are read here, no code of the core is.
That works from the first request on and in every worker; what had been remembered of the core's own answers would be
missing after a restart, and for whoever asks first when the core is already away. The version in the URL is a hash of
all the files, so that an answer from here is the core's, byte for byte. Another version (a core of another release, or
one that was upgraded under a running gateway) goes to the core as before.
"""

from pathlib import Path
from typing import Final

from gateway.contract import STATIC_CACHE, STATIC_PREFIX, STATIC_TYPES, static_etag, static_version
from gateway.http.head import Field, RequestHead
from gateway.http.reply import Reply

FOLDER: Final = Path(__file__).parents[1] / "registry_core" / "static"


class StaticFiles:
    """Read once: a few dozen KiB."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """A folder that is not there (a gateway alone) has no files."""
        try:
            found = sorted(path for path in folder.iterdir() if path.suffix in STATIC_TYPES)
            files = {path.name: path.read_bytes() for path in found}
        except OSError:
            files = {}
        prefix = f"{STATIC_PREFIX}{static_version(files)}/"
        self._replies = {prefix + name: _reply(name, content) for name, content in files.items()}

    def answer(self, head: RequestHead) -> Reply | None:
        """The file, or None where that is the core's to say."""
        reply = self._replies.get(head.path)
        if reply is None or head.method not in {"GET", "HEAD"}:
            return None
        if dict(reply.fields)["etag"] in head.fields.get("if-none-match"):
            kept = tuple(field for field in reply.fields if field[0] != "content-type")
            return Reply(status=304, fields=kept)
        return reply


def _reply(name: str, content: bytes) -> Reply:
    fields: tuple[Field, ...] = (
        ("content-type", STATIC_TYPES[Path(name).suffix]),
        ("etag", static_etag(content)),
        ("cache-control", STATIC_CACHE),
        ("x-content-type-options", "nosniff"),
    )
    return Reply(status=200, fields=fields, body=content)
