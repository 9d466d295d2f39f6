"""Owns templates of field names and values: text with ``$variables``, as the nginx upload module's users write them.

``$upload_field_name.path`` is the variable ``upload_field_name`` followed by ``.path``; ``${name}`` where letters
follow. Which variables there are, and when their values are known, is said here and nowhere else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))?")

DIGESTS: Final = ("md5", "sha1", "sha256", "sha512", "crc32")
# Known when a file begins.
FILE_VARIABLES: Final = frozenset(
    {
        "upload_field_name", "upload_file_name", "upload_content_type", "upload_tmp_path", "upload_file_number",
        "upload_content_range",
    }
)  # fmt: skip
# Known after its last byte.
DIGEST_VARIABLES: Final = {
    f"upload_file_{digest}{case}": digest for digest in DIGESTS for case in ("", "_uc")
}
AGGREGATE_VARIABLES: Final = frozenset({"upload_file_size", *DIGEST_VARIABLES})
# Known from the request's head.
REQUEST_VARIABLES: Final = frozenset(
    {"remote_addr", "request_id", "request_method", "request_uri", "uri", "args", "host", "scheme"}
)
_REQUEST_PREFIXES: Final = ("http_", "arg_")


@dataclass(frozen=True, slots=True)
class Variable:
    """One ``$name`` in a template."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """Text and variables in turn."""

    pieces: tuple[str | Variable, ...]

    @property
    def variables(self) -> frozenset[str]:
        """The names of its variables."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, Variable))

    @property
    def has_text(self) -> bool:
        """Whether it is more than variables, so that what it makes can be recognised."""
        return any(isinstance(piece, str) for piece in self.pieces)

    def fill(self, values: Mapping[str, str]) -> str:
        """The text; variables without a value (a header or an argument that was not sent) are empty."""
        if len(self.pieces) == 1:
            only = self.pieces[0]
            return only if isinstance(only, str) else values.get(only.name, "")
        return "".join(
            piece if isinstance(piece, str) else values.get(piece.name, "") for piece in self.pieces
        )


def parse_template(text: str, *, aggregate: bool) -> Template:
    """The template in ``text``. Size and digests are allowed only with ``aggregate``, as in the module.

    Raises: ValueError with a sentence.
    """
    pieces: list[str | Variable] = []
    at = 0
    for found in _VARIABLE.finditer(text):
        if found.start() > at:
            pieces.append(text[at : found.start()])
        name = found[1] or found[2]
        if name is None:
            raise ValueError(f"'{text}' has a '$' that begins no variable")
        _check_known(name, text, aggregate=aggregate)
        pieces.append(Variable(name))
        at = found.end()
    if at < len(text):
        pieces.append(text[at:])
    return Template(tuple(pieces))


def is_request_variable(name: str) -> bool:
    """Whether the variable's value comes from the request's head."""
    return name in REQUEST_VARIABLES or (name.startswith(_REQUEST_PREFIXES) and not name.endswith("_"))


def _check_known(name: str, text: str, *, aggregate: bool) -> None:
    if name in FILE_VARIABLES or is_request_variable(name):
        return
    if name not in AGGREGATE_VARIABLES:
        raise ValueError(f"'{text}' uses the unknown variable ${name}")
    if not aggregate:
        raise ValueError(
            f"'{text}' uses ${name}, which is known only after the file's last byte: move it to aggregate_fields"
        )
