"""Owns how other Python decoders read a form, brought to one shape: what ours must be compared with."""

import io
from collections.abc import Callable
from typing import IO

import python_multipart
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header as werkzeug_options

from gateway.errors import ClientError
from gateway.upload.disposition import parse_boundary
from tests.support.forms import read_form

# (name, filename, data) of each part; fields before files where a peer does not keep the order.
type Parts = list[tuple[str, str | None, bytes]]
type Outcome = Parts | None  # None: refused


def ours(content_type: str, body: bytes) -> Outcome:
    """Our decoder; of a file name, what was sent (peers do not take base names)."""
    try:
        parts = read_form(body, parse_boundary(content_type))
    except ClientError:
        return None
    return [(part.name, part.begin.filename_as_sent, part.data) for part in parts]


def defnull_multipart(content_type: str, body: bytes) -> Outcome:
    """``multipart`` by defnull, in its strict mode."""
    parts: Parts = []
    try:
        kind, options = parse_options_header(content_type)
        if kind != "multipart/form-data":
            return None
        with PushMultipartParser(options.get("boundary", ""), strict=True) as parser:
            data, segment = b"", None
            for event in [*parser.parse(body), *parser.parse(b"")]:
                if isinstance(event, MultipartSegment):
                    segment, data = event, b""
                elif event:
                    data += event
                elif segment is not None:
                    parts.append((segment.name, segment.filename, data))
    except (MultipartError, ValueError):
        return None
    return parts


def kludex_multipart(content_type: str, body: bytes) -> Outcome:
    """``python-multipart``, with its own form reader."""
    parts: Parts = []

    def on_field(field: python_multipart.multipart.Field) -> None:
        parts.append(((field.field_name or b"").decode("utf-8", "replace"), None, field.value or b""))

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        name, filename = file.field_name or b"", file.file_name or b""
        data = file.file_object.read()
        parts.append((name.decode("utf-8", "replace"), filename.decode("utf-8", "replace"), data))
        file.close()

    try:
        kind, options = python_multipart.multipart.parse_options_header(content_type)
        parser = FormParser(kind.decode(), on_field, on_file, boundary=options.get(b"boundary", b""))
        parser.write(body)
        parser.finalize()
        parser.close()
    except (FormParserError, ValueError, KeyError):
        return None
    return parts


def _in_memory(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> IO[bytes]:
    return io.BytesIO()


def werkzeug(content_type: str, body: bytes) -> Outcome:
    """Werkzeug, as Flask uses it but not silent."""
    kind, options = werkzeug_options(content_type)
    kind = kind.lower()  # as Request.mimetype does
    try:
        # memory, not spooled files: a refused form would leave them open
        parser = FormDataParser(stream_factory=_in_memory, silent=False)
        _, fields, files = parser.parse(io.BytesIO(body), kind, len(body), options)
    except (HTTPException, ValueError):
        return None
    if kind != "multipart/form-data":
        return None
    parts: Parts = [(name, None, value.encode()) for name, value in fields.items(multi=True)]
    parts += [(name, file.filename, file.stream.read()) for name, file in files.items(multi=True)]
    return parts


PEERS: dict[str, Callable[[str, bytes], Outcome]] = {
    "multipart": defnull_multipart,
    "python-multipart": kludex_multipart,
    "Werkzeug": werkzeug,
}
