"""Owns the short and slow way to read a form: whole body in memory, regular expressions. Ours must agree with it."""

import re

from gateway.errors import BadForm, ClientError
from gateway.upload.form import FormLimits
from gateway.upload.part_head import read_part_head
from tests.support.forms import read_form

# The limits on counts and sizes belong to the decoder alone; here they are out of the way.
LIMITS = FormLimits(
    fields=10**6, files=10**6, field_bytes=10**9, preamble_bytes=10**9, epilogue_bytes=10**9, lookalikes=10**9
)

type Parts = list[tuple[str, str | None, bytes]]


def reference_form(body: bytes, boundary: bytes) -> Parts:
    """The parts of a form. Raises: BadForm."""
    delimiter = re.compile(rb"\r\n--" + re.escape(boundary) + rb"(?:(--)|([ \t]*)(\r?)\n)")
    text = b"\r\n" + body
    parts: Parts = []
    head = None
    at = 0
    while True:
        found = delimiter.search(text, at)
        if found is None or (found[1] is None and not found[3]):
            raise BadForm
        if head is not None:
            disposition = head.disposition
            parts.append((disposition.name, disposition.filename, text[at : found.start()]))
        if found[1]:
            if not re.fullmatch(rb"[ \t]*(?:\r?\n.*)?", text[found.end() :], re.DOTALL):
                raise BadForm
            return parts
        end = text.find(b"\r\n\r\n", found.end() - 2)
        if end < 0:
            raise BadForm
        head = read_part_head(text[found.end() : end], max_headers=LIMITS.headers)
        at = end + 4


def check_against_reference(body: bytes, boundary: bytes, cuts: list[int]) -> None:
    """One body, read whole, in these cuts, in single bytes, and by the reference: all must agree."""
    expected = _outcome_of_reference(body, boundary)
    for places in ([], cuts, list(range(1, len(body)))):
        found = _outcome(body, boundary, places)
        assert found == expected, (body, boundary, places, found, expected)


def _outcome_of_reference(body: bytes, boundary: bytes) -> Parts | None:
    try:
        return reference_form(body, boundary)
    except ClientError:
        return None


def _outcome(body: bytes, boundary: bytes, cuts: list[int]) -> Parts | None:
    try:
        parts = read_form(body, boundary, cuts=cuts, limits=LIMITS)
    except ClientError:
        return None
    return [(part.name, part.filename, part.data) for part in parts]
