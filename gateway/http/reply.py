"""Owns what an answer is, and how an error becomes one: JSON for programs, a small page for browsers."""

import html
import json
from dataclasses import dataclass
from typing import Final

from gateway.errors import GatewayError
from gateway.http.head import Field

REASONS: Final = {
    100: "Continue", 101: "Switching Protocols", 104: "Upload Resumption Supported",
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
    301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed",
    413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
    417: "Expectation Failed", 421: "Misdirected Request", 422: "Unprocessable Content", 423: "Locked",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 460: "Checksum Mismatch",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 507: "Insufficient Storage",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer. ``closes`` ends the connection after it."""

    status: int
    fields: tuple[Field, ...] = ()
    body: bytes = b""
    closes: bool = False


def json_reply(status: int, value: object, *fields: Field, closes: bool = False) -> Reply:
    """An answer for programs."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Reply(
        status=status, fields=(("content-type", "application/json"), *fields), body=body, closes=closes
    )


def redirect(status: int, location: str) -> Reply:
    """A redirect. 303 after a form, 307/308 for everything that must keep its method (library-protocol: fact 10)."""
    return Reply(status=status, fields=(("location", location), ("content-length", "0")))


def error_reply(error: GatewayError, *, request_id: str, as_html: bool) -> Reply:
    """The one place where an error becomes an answer."""
    fields = (*error.headers, ("cache-control", "no-store"))
    if error.retry_after_s is not None:
        fields = (*fields, ("retry-after", str(error.retry_after_s)))
    if as_html:
        body = _error_page(error.status, error.message, request_id).encode()
        return Reply(
            status=error.status,
            fields=(("content-type", "text/html; charset=utf-8"), *fields),
            body=body,
            closes=error.closes,
        )
    value = {"error": {"code": error.status, "message": error.message}, "request_id": request_id}
    return json_reply(error.status, value, *fields, closes=error.closes)


def _error_page(status: int, message: str, request_id: str) -> str:
    title = f"{status} {REASONS.get(status, 'Error')}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{title}</title>"
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;"
        "margin:15vh auto;padding:0 1rem}small{opacity:.7}</style>"
        f"<h1>{title}</h1><p>{html.escape(message)}</p>"
        f"<p><a href='/'>To the start page</a></p><small>Request {html.escape(request_id)}</small></html>"
    )
