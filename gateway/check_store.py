"""Owns what ``gateway check`` finds about the stores: each is proven by use, with the keys that it should take."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final

from gateway.errors import GatewayError
from gateway.findings import Finding, fail, ok, warn
from gateway.settings import Settings
from gateway.store.opening import lives_on_previous_keys, open_store
from gateway.store.running import other_store
from gateway.store.s3_presign import external_url
from gateway.upload.route_stores import check_route_store

_ANSWER_S: Final = 3.0


def inspect_store(settings: Settings) -> Iterator[Finding]:
    """Proven by use."""
    subject = f"store ({settings.storage.kind})"
    if problem := other_store(settings):
        yield fail(subject, problem, "give this command the gateway's file (--config) and its environment")
        return
    if settings.storage.kind == "disk" and not settings.store_root.exists():
        yield warn(subject, f"{settings.store_root.absolute()} is not there yet", "'gateway serve' makes it")
        return
    store = open_store(settings)
    try:
        found = store.check()
    except GatewayError as exc:
        yield fail(subject, exc.detail or exc.message, _STORE_REMEDIES[settings.storage.kind])
        return
    if lives_on_previous_keys(store):
        yield warn(
            subject,
            f"{found}, but only with the previous pair of keys: storage.s3.access_key and secret_key are refused",
            "let the server take the pair of access_key and secret_key, or correct it; then remove the previous one",
        )
    else:
        yield ok(subject, found)


def inspect_route_stores(settings: Settings) -> Iterator[Finding]:
    """Where the files of each upload route go."""
    for route in (route for route in settings.routes if route.action == "upload"):
        try:
            yield ok(f"route {route.place}", check_route_store(route, settings))
        except GatewayError as exc:
            remedy = _STORE_REMEDIES["s3"] if route.store_s3 else "the gateway must be able to write there"
            yield fail(f"route {route.place}", exc.detail or exc.message, remedy)


_STORE_REMEDIES: Final = {
    "disk": "storage.disk.root must be one file system with hard links, writable for the gateway, with room",
    "s3": "check storage.s3.endpoint, ssl, bucket and keys; the keys need read, write, list and delete on the bucket",
}


def inspect_direct_downloads(settings: Settings) -> Iterator[Finding]:
    """Links to another host work only where that host can be reached: from every client."""
    s3 = settings.storage.s3
    if settings.storage.kind != "s3" or not s3.direct:
        return
    if not s3.external_endpoint:
        yield fail("S3 links", "direct = true without external_endpoint", "set storage.s3.external_endpoint")
        return
    url = f"{external_url(s3)}/"
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S):  # noqa: S310 - the scheme is fixed above
            pass
    except urllib.error.HTTPError:
        pass  # 403 and the like: somebody who speaks HTTP is there
    except (OSError, ValueError, http.client.HTTPException) as exc:
        yield fail(
            "S3 links",
            f"{url} does not answer here: {exc}",
            "clients need to reach it too; or set storage.s3.direct = false: downloads then go through the gateway",
        )
        return
    yield ok("S3 links", f"{url} answers from here; clients must reach it by the same name")
