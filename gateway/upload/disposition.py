"""Owns the grammar of Content-Type and Content-Disposition: a value, then ``; name=value`` parameters.

Both are read strictly: what two parsers could understand differently is refused, never guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import BadForm, UnsupportedForm
from gateway.http.head import RequestHead

# RFC 2046 section 5.1.1: at most 70 of these characters, and no space at the end.
BOUNDARY_MAX_CHARS: Final = 70
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Quantifiers are possessive: a hostile header costs one pass, not a search.
_QUOTED: Final = r'"((?:[^"\\]++|\\.)*+)"'
_TYPE: Final = re.compile(rf"[ \t]*({_NAME}(?:/{_NAME})?)[ \t]*")
# Clients write boundaries with ( ) , / : = ? without the quotes they should have: it can mean nothing else.
_TYPE_PARAMETER: Final = re.compile(
    rf";[ \t]*(?:({_NAME})[ \t]*=[ \t]*(?:{_QUOTED}|([^\x00-\x20\x7f\"\\;]++)))?[ \t]*", re.DOTALL
)
# A token, but raw UTF-8 is let through, as in quoted values.
_DISPOSITION_PARAMETER: Final = re.compile(
    rf";[ \t]*(?:({_NAME})=(?:{_QUOTED}|([^\x00-\x20\x7f\"\\;,=()<>@:/?\[\]{{}}]++)))?[ \t]*", re.DOTALL
)
# What browsers escape (HTML, multipart/form-data encoding), and the quotes and backslashes of old curl. A
# backslash before anything else is itself: browsers send it so.
_ESCAPED: Final = re.compile(r'\\(["\\])|%(22|0D|0A)')
_PERCENT: Final = {"22": '"', "0D": "\r", "0A": "\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """What a part's Content-Disposition says.

    filename: base name only, "" if nothing is left of it; None for a plain field.
    filename_as_sent: with the path that some clients send; to show, never to open.
    """

    name: str
    filename: str | None
    filename_as_sent: str | None


def boundary_of(head: RequestHead) -> bytes:
    """The boundary of a request that brings a form.

    Raises: UnsupportedForm, BadForm.
    """
    kinds = head.fields.all("content-type")
    if len(kinds) > 1:
        raise BadForm("The request has more than one Content-Type.")
    return parse_boundary(kinds[0] if kinds else "")


def parse_boundary(content_type: str) -> bytes:
    """The boundary in a request's Content-Type.

    Raises: UnsupportedForm (not multipart/form-data), BadForm (no boundary, two, or an impossible one).
    """
    start = _TYPE.match(content_type)
    if start is None or start[1].lower() != "multipart/form-data":
        raise UnsupportedForm()
    found = [
        value for name, value in _parameters(_TYPE_PARAMETER, content_type, start.end()) if name == "boundary"
    ]
    if len(found) != 1:
        raise BadForm(f"The Content-Type must have one boundary parameter; it has {len(found) or 'none'}.")
    boundary = found[0]
    if len(boundary) > BOUNDARY_MAX_CHARS:
        raise BadForm(
            f"The boundary is longer than {BOUNDARY_MAX_CHARS} characters (RFC 2046 section 5.1.1)."
        )
    if not _BOUNDARY.fullmatch(boundary):
        raise BadForm(
            "The boundary is empty, ends in a space or has characters that RFC 2046 does not allow."
        )
    return boundary.encode("ascii")


def parse_disposition(text: str) -> Disposition:
    """A part's Content-Disposition; ``text`` is UTF-8 decoded with surrogateescape.

    ``filename*`` is never decoded: RFC 7578 section 4.2 forbids it in forms, and parsers that let it win over
    ``filename`` were used to smuggle names. Beside ``filename`` it is ignored (.NET sends both), alone refused.

    Raises: BadForm.
    """
    start = _TYPE.match(text)
    if start is None or start[1].lower() != "form-data":
        raise BadForm("A part's Content-Disposition must be form-data.")
    values: dict[str, str] = {}
    for name, value in _parameters(_DISPOSITION_PARAMETER, text, start.end()):
        if name in values:
            raise BadForm(f"A part's Content-Disposition has the parameter '{name}' twice.")
        values[name] = value
    if "name" not in values:
        raise BadForm("A part of the form has no name.")
    if "filename*" in values and "filename" not in values:
        raise BadForm('Send the file name as filename="…" in UTF-8: RFC 7578 section 4.2 forbids filename*.')
    sent = values.get("filename")
    return Disposition(
        name=_field_name(values["name"]),
        filename=None if sent is None else _base_name(sent := _file_name(sent)),
        filename_as_sent=sent,
    )


def _parameters(grammar: re.Pattern[str], text: str, at: int) -> Iterator[tuple[str, str]]:
    while at < len(text):
        found = grammar.match(text, at)
        if found is None:
            raise BadForm("A parameter of Content-Type or Content-Disposition is malformed.")
        name, quoted, bare = found.groups()
        if name is not None:
            yield name.lower(), bare if quoted is None else quoted
        at = found.end()


def _unescape(text: str) -> str:
    if "\\" not in text and "%" not in text:
        return text
    return _ESCAPED.sub(lambda found: found[1] or _PERCENT[found[2]], text)


def _field_name(text: str) -> str:
    try:
        text.encode()  # fails for the surrogates of bytes that are not UTF-8
    except UnicodeEncodeError as exc:
        raise BadForm("The name of a form field is not UTF-8.") from exc
    return _unescape(text)


def _file_name(text: str) -> str:
    # Only shown, never a path: bytes that are not UTF-8 must not fail an upload of gigabytes.
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _unescape(text)


def _base_name(filename: str) -> str:
    base = filename[max(filename.rfind("/"), filename.rfind("\\")) + 1 :]
    return "" if base in {".", ".."} else base
