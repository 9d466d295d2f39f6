"""Owns the decision whether bytes are exactly one unambiguous request head.

A strict shape comes first; a differential fuzz test proves that it accepts nothing that h11 refuses. h11 itself judges
whatever is not plain: heads with a transfer coding or an expectation, HTTP/1.0, and all that the shape does not know,
so that the refusal says why. A plain head costs a fifth of h11's time. On top come refusals that h11 leaves out: each
of them is a request that two servers in a row may read in two ways (front-door: smuggling matrix).
"""

import re
from typing import Final

import h11

from gateway.errors import (
    ExpectationFailed,
    GatewayError,
    HeadTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    TargetTooLong,
)
from gateway.http.head import NO_BODY, Chunked, Fields, Framing, NoBody, RequestHead, Sized

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/1\.([01])" % _TOKEN)
_FIELD_LINES: Final = re.compile(rb"(?:%s:[\t\x20-\x7e\x80-\xff]*\r\n)*" % _TOKEN)
# RFC 9112 section 3.2: userinfo and empty hosts are not for http; what is left is what a Host may be made of.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")  # below 2^63, so that no later arithmetic can be surprised
_NOT_PLAIN: Final = frozenset(("transfer-encoding", "expect"))
HEAD_END: Final = b"\r\n\r\n"


def parse_head(raw: bytes, *, target_bytes: int = 8192) -> RequestHead:
    """The head in ``raw``, which ends with the empty line.

    Raises: MalformedRequest, HeadTooLarge, TargetTooLong, MethodNotAllowed (CONNECT), ExpectationFailed.
    """
    split = _split(raw)
    if split is None:
        if _has_odd_breaks(raw):
            raise MalformedRequest("The request head has a bare LF, a bare CR, a NUL or a folded line.")
        _judge_with_h11(raw)
        raise MalformedRequest("The request head is not HTTP/1.1, or has a control character in it.")
    method, target, minor, fields = split
    if minor == 0 or any(name in _NOT_PLAIN for name, _ in fields):
        _judge_with_h11(raw)
    check_target(method, target, target_bytes=target_bytes)
    target, fields = _origin_form(method, target, fields)
    check_host(fields, minor)
    return RequestHead(
        method=method,
        target=target,
        fields=fields,
        framing=_framing(fields, minor),
        minor=minor,
        keep_alive=_keeps_alive(fields, minor),
        expects_continue=expects_continue(fields, minor),
    )


def _has_odd_breaks(raw: bytes) -> bool:
    lines = raw.count(HEAD_END[:2])
    broken = raw.count(b"\n") != lines or raw.count(b"\r") != lines
    return broken or b"\0" in raw or b"\r\n " in raw or b"\r\n\t" in raw


def head_too_large(limit: int) -> GatewayError:
    """The refusal of a head that has not ended within ``limit`` bytes."""
    return HeadTooLarge(f"The request head is larger than {limit} bytes.")


def check_target(method: str, target: str, *, target_bytes: int) -> None:
    """What holds for a target in every version of HTTP. Raises: TargetTooLong, MethodNotAllowed (CONNECT)."""
    if len(target) > target_bytes:
        raise TargetTooLong(f"The request target is longer than {target_bytes} bytes.")
    if method == "CONNECT":
        raise MethodNotAllowed("This is not a forward proxy.", headers=(("allow", "GET, HEAD, POST, PUT"),))


def _split(raw: bytes) -> tuple[str, str, int, Fields] | None:
    """Method, target, minor version and fields of a head of the strict shape; None for any other."""
    line_end = raw.find(b"\r\n")
    request = _REQUEST_LINE.fullmatch(raw, 0, line_end)
    if request is None or not _FIELD_LINES.fullmatch(raw, line_end + 2, len(raw) - 2):
        return None
    fields = []
    for line in raw[line_end + 2 : -4].decode("latin-1").split("\r\n"):
        if line:
            name, _, value = line.partition(":")
            fields.append((name.lower(), value.strip(" \t")))
    return request[1].decode(), request[2].decode(), int(request[3]), Fields(fields)


def _judge_with_h11(raw: bytes) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    try:
        connection.receive_data(raw)
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise MalformedRequest(f"The request head is malformed: {exc}.", detail=repr(exc)) from exc
    if not isinstance(event, h11.Request):
        raise MalformedRequest(detail=f"h11 made {type(event).__name__} of a head")


def _origin_form(method: str, target: str, fields: Fields) -> tuple[str, Fields]:
    if target.startswith("/"):
        if "#" in target:
            raise MalformedRequest("A request target has no fragment.")
        return target, fields
    if target == "*" and method == "OPTIONS":
        return target, fields
    scheme, found, rest = target.partition("://")
    if not found or scheme.lower() not in {"http", "https"} or "#" in rest:
        raise MalformedRequest("The request target must begin with '/'.")
    authority, slash, path = rest.partition("/")
    if "?" in authority or authority.lower() != fields.get("host").lower():
        raise MalformedRequest("The request target names another host than the Host field.")
    return slash + path if slash else "/", fields


def check_host(fields: Fields, minor: int) -> None:
    """Exactly one Host, and a possible one. Raises: MalformedRequest."""
    hosts = fields.all("host")
    if len(hosts) > 1:
        raise MalformedRequest("The request has more than one Host field.")
    if not hosts and minor == 1:
        raise MalformedRequest("The request has no Host field.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise MalformedRequest("The Host field is not a host name.")


def _framing(fields: Fields, minor: int) -> Framing:
    """RFC 9112 section 6.3, with every case that it leaves to the server's courage refused."""
    codings = fields.all("transfer-encoding")
    lengths = fields.all("content-length")
    if codings:
        if lengths:
            raise MalformedRequest("The request has both Content-Length and Transfer-Encoding.")
        if minor == 0:
            raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding.")
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise MalformedRequest("The only transfer coding supported is 'chunked', once.")
        return Chunked()
    return sized(lengths) if lengths else NO_BODY


def sized(lengths: list[str]) -> Sized | NoBody:
    """The framing that the values of Content-Length make. Raises: MalformedRequest."""
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise MalformedRequest("Content-Length must be one decimal number.")
    length = int(lengths[0])
    return Sized(length) if length else NO_BODY


def _keeps_alive(fields: Fields, minor: int) -> bool:
    options = {option.lower() for option in fields.items_of("connection")} if fields.has("connection") else ()
    return "close" not in options if minor == 1 else "keep-alive" in options


def expects_continue(fields: Fields, minor: int) -> bool:
    """Whether the client waits for ``100 Continue``. Raises: ExpectationFailed."""
    if not fields.has("expect"):
        return False
    if fields.get("expect").lower() != "100-continue":
        raise ExpectationFailed
    return minor == 1
