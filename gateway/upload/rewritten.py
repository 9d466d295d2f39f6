"""Owns the form that a backend gets instead of the client's: escaped, free of forged fields, signed.

Pure. The boundary is ours and random: a client who knows it could write parts of his own into a value.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.errors import BodyTooLarge
from gateway.http.head import Field
from gateway.upload.form import PartBegin
from gateway.upload.plan import StoredFile, UploadPlan, alike, file_values, remembering, spellings

SIGNATURE_HEADER: Final = "x-upload-signature"
SIGNATURE_VERSION: Final = "v1"
# HTML's escapes, the only ones that every form decoder reads the same.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedForm:
    """A body and its Content-Type."""

    body: bytes
    content_type: str


class RewrittenForm:
    """Collects the fields of one form in their order of arrival."""

    def __init__(self, plan: UploadPlan, request: Mapping[str, str]) -> None:
        self._plan = plan
        self._request = request
        self._parts: list[tuple[str, bytes, bool]] = []  # name, value, whether it is generated
        self._size = 0
        self._files = 0
        self._has_plain = False

    def add_field(self, name: str, value: bytes) -> None:
        """A plain field of the client; dropped unless the plan passes it. Raises: BodyTooLarge."""
        if self._plan.passes(name):
            self._has_plain = True
            self._add(name, value, generated=False)

    def add_file(self, part: PartBegin, stored: StoredFile) -> None:
        """A file, which is replaced by fields. Raises: BodyTooLarge, BadForm."""
        self._files += 1
        values = {**self._request, **file_values(self._plan, part, stored, number=self._files)}
        names = self._plan.generated_names(values["upload_field_name"], values)
        for name, field in zip(names, self._plan.generated, strict=True):
            if name:
                self._add(name, field.value.fill(values).encode("utf-8", "replace"), generated=True)

    def encode(self) -> EncodedForm:
        """The form to send. Client fields whose names we generated are gone, wherever they stood."""
        kept = self._parts
        if self._has_plain:
            ours = {alike(name) for name, _, generated in self._parts if generated}
            kept = [part for part in self._parts if part[2] or ours.isdisjoint(spellings(part[0]))]
        boundary = secrets.token_hex(16)
        delimiter = f"--{boundary}\r\n".encode()
        pieces: list[bytes] = []
        for name, value, _ in kept:
            pieces += (delimiter, _part_head(name), value, b"\r\n")
        pieces.append(f"--{boundary}--\r\n".encode())
        return EncodedForm(body=b"".join(pieces), content_type=f"multipart/form-data; boundary={boundary}")

    def _add(self, name: str, value: bytes, *, generated: bool) -> None:
        self._size += len(name.encode("utf-8", "replace")) + len(value)
        limit = self._plan.max_output_bytes
        if limit and self._size > limit:
            raise BodyTooLarge(f"The form's fields are larger than the {limit} bytes that are allowed here.")
        self._parts.append((name, value, generated))


class FormSigner:
    """Signs what one route sends."""

    def __init__(self, key: bytes) -> None:
        # Copied for each form: OpenSSL takes much longer to begin with a key.
        self._keyed = hmac.new(key, digestmod="sha256")

    def sign(self, form: EncodedForm, *, method: str, target: str, now: float) -> Field:
        """The header that proves a rewritten form to the backend. ``target`` is path and query as they are sent."""
        stamp = str(int(now))
        digest = hashlib.sha256(form.body).hexdigest()
        mac = self._keyed.copy()
        mac.update("\n".join((SIGNATURE_VERSION, stamp, method, target, form.content_type, digest)).encode())
        return SIGNATURE_HEADER, f"{SIGNATURE_VERSION} {stamp} {mac.hexdigest()}"


@remembering
def _part_head(name: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name.translate(_ESCAPES)}"\r\n\r\n'.encode(
        "utf-8", "replace"
    )
