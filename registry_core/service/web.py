"""Owns asking other web servers for JSON: bounded in time and size, and without following redirects."""

import http.client
import json
import ssl
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

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
    parts = urlsplit(address)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(
            method,
            path,
            body or None,
            {"accept": "application/json", "user-agent": "sregistry-gateway", **headers},
        )
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        raise UpstreamError(detail=f"{address}: {type(exc).__name__}: {exc}") from exc
    finally:
        connection.close()


def _object(address: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as exc:
        raise UpstreamError(detail=f"{address}: HTTP {status}, and not JSON") from exc
    if status != _OK or not isinstance(value, dict):
        raise UpstreamError(detail=f"{address}: HTTP {status} {str(value)[:200]}")
    return value
