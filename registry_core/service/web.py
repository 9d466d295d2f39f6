"""Owns asking other web servers for JSON: bounded in time and size, and without following redirects."""

import http.client
import json
import ssl
import time
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

from gateway.errors import UpstreamError

TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 1 << 20
_OK: Final = 200


def get_json(address: str, headers: dict[str, str]) -> dict[str, Any]:
    """Raises: UpstreamError."""
    return _object(address, *exchange("GET", address, b"", headers))


def post_form(address: str, form: dict[str, str], headers: dict[str, str]) -> dict[str, Any]:
    """Raises: UpstreamError."""
    headers = {"content-type": "application/x-www-form-urlencoded", **headers}
    return _object(address, *exchange("POST", address, urlencode(form).encode(), headers))


def exchange(method: str, address: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of one request. Raises: UpstreamError."""
    try:
        parts = urlsplit(address)
        connection = _connection(parts)
    except ValueError as exc:
        raise UpstreamError(detail=f"{address}: {exc}") from exc
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(
            method,
            path,
            body or None,
            {"accept": "application/json", "user-agent": "sregistry-gateway", **headers},
        )
        answer = connection.getresponse()
        return answer.status, _read(answer)
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
    ) as exc:  # ValueError: names that no resolver takes
        raise UpstreamError(detail=f"{address}: {type(exc).__name__}: {exc}") from exc
    finally:
        connection.close()


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=context)


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The body, or its beginning. A timeout of the socket begins anew with every byte, so that time is told here."""
    body, deadline = b"", time.monotonic() + TIMEOUT_S
    while len(body) < _MOST_BYTES and (piece := answer.read1(_MOST_BYTES - len(body))):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError("its answer does not end")
    return body


def _object(address: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as exc:
        raise UpstreamError(detail=f"{address}: HTTP {status}, and not JSON") from exc
    if status != _OK or not isinstance(value, dict):
        raise UpstreamError(detail=f"{address}: HTTP {status} {str(value)[:200]}")
    return value
