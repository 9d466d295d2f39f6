"""Owns the decision whether the fields of an HTTP/2 request are exactly one unambiguous request head.

HTTP/2 frames its fields, so that a value may hold what would end a line in HTTP/1.1: everything that could become
two requests behind us is refused here (RFC 9113 sections 8.2, 8.3 and 10.3). The rest is judged as in ``parse.py``.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.errors import MalformedRequest
from gateway.http.head import NO_BODY, Chunked, Field, Fields, Framing, RequestHead
from gateway.http.parse import check_host, check_target, expects_continue, head_too_large, sized

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_PATH: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # no fragment
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_CONNECTION: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
)
_AROUND: Final = 4  # bytes that a field line has beside name and value, as HTTP/1.1 would have counted them

type RawFields = Iterable[tuple[bytes, bytes]]


def make_head(
    raw: RawFields, *, has_body: bool, scheme: str, head_bytes: int, target_bytes: int
) -> RequestHead:
    """The head in the fields of a HEADERS block. ``has_body``: the block did not end the stream.

    Raises: MalformedRequest, HeadTooLarge, TargetTooLong, MethodNotAllowed (CONNECT), ExpectationFailed.
    """
    pseudo, plain = _split(raw, head_bytes)
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method):
        raise MalformedRequest("The request has no method.")
    check_target(method.decode(), target.decode("latin-1"), target_bytes=target_bytes)
    if pseudo.get(b":scheme", b"").lower() != scheme.encode():
        raise MalformedRequest(f"The scheme of this request must be {scheme}.")
    if not _PATH.fullmatch(target) and (method, target) != (b"OPTIONS", b"*"):
        raise MalformedRequest("The request target must begin with '/', and has no fragment.")
    fields = _with_host(plain, pseudo.get(b":authority"))
    check_host(fields, 1)
    return RequestHead(
        method=method.decode(),
        target=target.decode(),
        fields=fields,
        framing=_framing(fields, has_body=has_body),
        expects_continue=has_body and expects_continue(fields, 1),
        major=2,
    )


def _split(raw: RawFields, head_bytes: int) -> tuple[dict[bytes, bytes], list[Field]]:
    pseudo: dict[bytes, bytes] = {}
    plain: list[Field] = []
    size = 0
    for name, value in raw:
        size += len(name) + len(value) + _AROUND
        if size > head_bytes:
            raise head_too_large(head_bytes)
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or plain:
                raise MalformedRequest("The request has a pseudo-header field too much, or too late.")
            pseudo[name] = value
        else:
            plain.append(_checked(name, value))
    return pseudo, plain


def _checked(name: bytes, value: bytes) -> Field:
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise MalformedRequest(
            "A field has a capital letter or a control character, or a space where there is none."
        )
    field = name.decode(), value.decode("latin-1")
    if field[0] in _CONNECTION:
        raise MalformedRequest("HTTP/2 has no fields about the connection.")
    if field[0] == "te" and field[1].lower() != "trailers":
        raise MalformedRequest("The only transfer coding of HTTP/2 is 'te: trailers'.")
    return field


def _with_host(plain: list[Field], authority: bytes | None) -> Fields:
    if authority is None:
        return Fields(plain)
    named = authority.decode("latin-1")
    hosts = [value for name, value in plain if name == "host"]
    if any(host.lower() != named.lower() for host in hosts):
        raise MalformedRequest("The request names one host as its authority and another in its Host field.")
    return Fields(plain if hosts else (("host", named), *plain))


def _framing(fields: Fields, *, has_body: bool) -> Framing:
    lengths = fields.all("content-length")
    framing = sized(lengths) if lengths else None
    if has_body:
        return Chunked() if framing is None else framing
    if framing is not None and framing != NO_BODY:
        raise MalformedRequest("The request announces a body and has none.")
    return NO_BODY


def make_trailers(raw: RawFields, *, head_bytes: int) -> tuple[Field, ...]:
    """The fields after a body. Raises: MalformedRequest, HeadTooLarge."""
    pseudo, plain = _split(raw, head_bytes)
    if pseudo:
        raise MalformedRequest("Trailers have no pseudo-header fields.")
    return tuple(plain)
