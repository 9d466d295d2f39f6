"""Owns what pages of other origins may do with uploads: nothing, unless their origin is listed."""

from typing import Final

from gateway.http.head import Field, RequestHead

METHODS: Final = "POST, PUT, GET, HEAD, PATCH, DELETE, OPTIONS"
_ALLOWED: Final = (
    "Authorization, Content-Type, Content-Digest, Repr-Digest, Tus-Resumable, Upload-Checksum, Upload-Complete,"
    " Upload-Concat, Upload-Defer-Length, Upload-Draft-Interop-Version, Upload-Length, Upload-Metadata,"
    " Upload-Offset, X-CSRF-Token, X-HTTP-Method-Override, X-Request-ID, X-Requested-With"
)
_EXPOSED: Final = (
    "Image-Digest, Image-Location, Image-Ref, Location, Retry-After, Tus-Checksum-Algorithm, Tus-Extension,"
    " Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Complete, Upload-Concat, Upload-Defer-Length,"
    " Upload-Draft-Interop-Version, Upload-Expires, Upload-Length, Upload-Limit, Upload-Metadata, Upload-Offset,"
    " X-Request-Id"
)
_PREFLIGHT_KEPT_S: Final = "86400"


class Cors:
    """The listed origins. No cookie crosses: other origins authenticate with a token."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def fields(self, head: RequestHead) -> tuple[Field, ...]:
        """What every answer to this request carries, refusals too."""
        if not self._origins:
            return ()
        vary = ("vary", "origin")
        if not self._allows(head):
            return (vary,)
        origin = head.fields.get("origin")
        return (vary, ("access-control-allow-origin", origin), ("access-control-expose-headers", _EXPOSED))

    def preflight(self, head: RequestHead) -> tuple[Field, ...]:
        """What the answer to OPTIONS carries beside that."""
        if not self._allows(head) or not head.fields.has("access-control-request-method"):
            return ()
        return (
            ("access-control-allow-methods", METHODS),
            ("access-control-allow-headers", _ALLOWED),
            ("access-control-max-age", _PREFLIGHT_KEPT_S),
        )

    def _allows(self, head: RequestHead) -> bool:
        origin = head.fields.get("origin")
        return bool(origin) and bool(self._origins) and (self._all or origin.lower() in self._origins)
