"""Owns the settings of ``[[routes]]``: what the gateway does in front of any other backend."""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.template import parse_template

KIB: Final = 1 << 10

type Size = Annotated[int, Field(ge=0)]

_WHO: Final = {"user": 6, "group": 3, "all": 0}
_MODES: Final = {"r": 4, "w": 2, "rw": 6}
# What `file_fields` may name, and the variable behind each name.
FILE_FIELDS: Final = {
    "name": "upload_file_name",
    "content_type": "upload_content_type",
    "path": "upload_tmp_path",
    "number": "upload_file_number",
    "size": "upload_file_size",
    "md5": "upload_file_md5",
    "sha1": "upload_file_sha1",
    "sha256": "upload_file_sha256",
    "sha512": "upload_file_sha512",
    "crc32": "upload_file_crc32",
}
LEVELS_MAX: Final = 3  # as in nginx: more than 16 million folders help nobody
STATUS_FIRST, STATUS_LAST = 200, 599
_CIRCUIT_SETTINGS: Final = (
    "max_fails", "slow_s", "slow_share", "pause_s", "pause_max_s",
    "health_path", "health_host", "health_every_s", "health_timeout_s",
)  # fmt: skip
# As good as every path: it needs no decoding, and no step of it begins with a dot.
_NORMAL_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_~@:$+-][A-Za-z0-9._~@:$+-]*)+/?")
_KNOWN_BEFORE_DATA: Final = frozenset({"name", "content_type", "path", "number"})


def parse_access(value: object) -> object:
    """Access bits as nginx writes them (``user:rw group:r``) or in octal (``"0640"``), as a number.

    Raises: ValueError with a sentence.
    """
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    mode = 0o600
    for word in value.split():
        who, colon, what = word.partition(":")
        if not colon or who not in _WHO or what not in _MODES:
            raise ValueError("must read like 'user:rw group:r all:r', or be octal like '0640'")
        mode |= _MODES[what] << _WHO[who]
    return mode


def parse_statuses(value: object) -> object:
    """``"404"`` or ``"400-599"``, or a number, as (first, last).

    Raises: ValueError with a sentence.
    """
    if isinstance(value, (tuple, list)):
        return value
    found = re.fullmatch(r"(\d{3})(?:-(\d{3}))?", str(value))
    if not found:
        raise ValueError(f"'{value}' is no status and no range of statuses like '400-599'")
    first = int(found[1])
    return first, int(found[2] or first)


def _refuse_variables(place: str) -> None:
    # The module replaces them by what the client sent; here they would be the name of a folder.
    if "$" in place:
        raise ValueError(f"'{place}' has a '$': there are no variables here, all files go to one place")


type Access = Annotated[int, BeforeValidator(parse_access), Field(ge=0o400, le=0o777)]
type Statuses = Annotated[tuple[int, int], BeforeValidator(parse_statuses)]


class Route(BaseModel):
    """One ``[[routes]]`` table. The first route that matches a request takes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    path: str = Field("", description="Exactly this path. Either path or prefix must be set.")
    prefix: str = Field("", description="This path and everything below it.")
    action: Literal["upload", "forward", "hide"] = Field(
        "forward",
        description="upload = take the files out of forms and send the rest; forward = pass on as is;"
        " hide = answer 404 to everybody.",
    )
    upstream: str = Field("", description="The backend: http://HOST:PORT or unix:/path; none with hide.")
    other_methods: Literal["refuse", "forward"] = Field(
        "refuse", description="What an upload route does with methods other than POST, PUT and OPTIONS."
    )
    max_body_bytes: Size = Field(0, description="Largest body of a forwarded request; 0 = no limit.")

    max_fails: int = Field(
        3, ge=0, description="Failures in a row after which the backend is left alone for a while; 0 = never."
    )
    slow_s: float = Field(
        0,
        ge=0,
        description="An answer that begins later than this is slow; 0 = none is. Not for long polling.",
    )
    slow_share: float = Field(
        0.5, gt=0, le=1, description="Share of slow answers among the latest 20 that counts as a failure."
    )
    pause_s: float = Field(
        1.0, gt=0, description="Seconds until one request may try a backend that is left alone; doubles."
    )
    pause_max_s: float = Field(30.0, gt=0, description="The longest such pause.")
    health_path: str = Field(
        "", description="Path that tells whether the backend is well (2xx, 3xx); empty = requests find out."
    )
    health_host: str = Field("", description="Host of that question; empty = localhost.")
    health_every_s: float = Field(5.0, gt=0, description="Seconds from one such question to the next.")
    health_timeout_s: float = Field(2.0, gt=0, description="Seconds within which it must be answered.")

    pass_to: str = Field(
        "", description="Path that the rewritten form is sent to; empty = the request's own."
    )
    pass_args: bool = Field(False, description="Append the request's query string to pass_to.")
    pass_fields: tuple[str, ...] = Field(
        (), description="Patterns (regular expressions) of the plain fields that are passed; none by default."
    )
    file_fields: tuple[str, ...] = Field(
        (),
        description="Fields sent for each file as FIELD.NAME: name, content_type, path, number, size, md5, sha1,"
        " sha256, sha512, crc32.",
    )
    set_fields: dict[str, str] = Field(
        default_factory=dict, description="Further fields for each file: name and value, with variables."
    )
    aggregate_fields: dict[str, str] = Field(
        default_factory=dict, description="The same, and sizes and digests may be used."
    )
    tame_arrays: bool = Field(False, description="Drop a '[]' at the end of a file's field name.")

    store: Path | None = Field(None, description="Folder of the files; the backend must be able to read it.")
    store_s3: str = Field(
        "",
        description="Instead of store: BUCKET or BUCKET/PREFIX at the server and with the keys of [storage.s3].",
    )
    store_levels: tuple[int, ...] = Field(
        (),
        description="Hashed sub-folders: how many characters, counted from the end of the name, each takes.",
    )
    store_access: Access = Field(
        0o600, description="Access bits of a stored file: 'user:rw group:r' or '0640'."
    )
    fsync: bool = Field(True, description="Make each file durable before the backend is told of it.")
    reserve_bytes: Size = Field(256 << 20, description="Room always left free in the store; beyond it: 507.")
    cleanup: tuple[Statuses, ...] = Field(
        (), description="Statuses of the backend on which the files are removed: '404', '400-599'."
    )
    keep_hours: float = Field(
        0, ge=0, description="Files that the backend left in the store this long are removed; 0 = never."
    )

    max_file_bytes: Size = Field(0, description="Largest file; 0 = no limit.")
    max_total_bytes: Size = Field(0, description="Largest form; 0 = no limit.")
    max_files: int = Field(100, ge=1, description="Most files of a form.")
    max_fields: int = Field(100, ge=1, description="Most plain fields of a form.")
    max_field_bytes: Size = Field(64 * KIB, description="Largest plain field.")
    max_part_header_bytes: int = Field(8 * KIB, ge=64, description="Largest header block of a part.")
    max_output_bytes: Size = Field(100 * KIB, description="Largest rewritten form; 0 = no limit.")
    max_rate: Size = Field(0, description="Most bytes/s of one request; 0 = no limit.")

    auth_url: str = Field(
        "",
        description="Asked before the first body byte, with the request's headers; a path goes to the upstream."
        " 2xx = go on, 401 and 403 are passed to the client.",
    )
    sign_key_file: Path | None = Field(
        None, description="Key that signs rewritten forms; null = secrets/routes.key in the data folder."
    )

    @field_validator("path", "prefix", "pass_to", "health_path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if value and not re.fullmatch(r"/[!-~]*", value):
            raise ValueError(f"'{value}' must be a path that begins with '/' and has no spaces")
        if "?" in value or "#" in value:
            raise ValueError(f"'{value}' must be a path without query")
        return value

    @field_validator("upstream")
    @classmethod
    def _is_upstream(cls, value: str) -> str:
        if not value or re.fullmatch(r"unix:/[^\s?#]+", value):
            return value
        if not re.fullmatch(r"http://(?:[^\s/?#@:$\[\]]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/?", value):
            raise ValueError(f"'{value}' must read http://HOST:PORT, or unix:/path/of/socket")
        return value

    @field_validator("auth_url")
    @classmethod
    def _is_auth_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"(?:http://[^/\s]+)?/[!-~]*", value):
            raise ValueError(f"'{value}' must be a path, or http://HOST:PORT/path")
        return value

    @field_validator("store")
    @classmethod
    def _is_folder(cls, value: Path | None) -> Path | None:
        _refuse_variables(str(value or ""))
        # The path of a URL has lost one of its slashes. It would be a folder named "s3:" wherever we were started.
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(value or "")):
            raise ValueError(
                f"'{value}' is a URL and no folder; for S3 set store_s3 to BUCKET or BUCKET/PREFIX"
            )
        return value

    @field_validator("store_s3")
    @classmethod
    def _is_bucket(cls, value: str) -> str:
        _refuse_variables(value)
        if value and not re.fullmatch(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", value
        ):
            raise ValueError(
                f"'{value}' must read BUCKET or BUCKET/PREFIX, without s3:// and without / at the end"
            )
        return value

    @field_validator("pass_fields")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise ValueError(f"'{pattern}' is not a regular expression: {exc}") from exc
        return value

    @field_validator("file_fields")
    @classmethod
    def _are_file_fields(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in FILE_FIELDS:
                raise ValueError(f"'{name}' is not one of {', '.join(FILE_FIELDS)}")
        return value

    @field_validator("set_fields")
    @classmethod
    def _are_set_templates(cls, value: dict[str, str]) -> dict[str, str]:
        for text in (*value, *value.values()):
            parse_template(text, aggregate=False)
        return value

    @field_validator("aggregate_fields")
    @classmethod
    def _are_aggregate_templates(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            parse_template(name, aggregate=False)
            parse_template(text, aggregate=True)
        return value

    @field_validator("store_levels")
    @classmethod
    def _are_levels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) > LEVELS_MAX or any(not 1 <= level <= LEVELS_MAX for level in value):
            raise ValueError("must be at most three numbers from 1 to 3, like [1, 2]")
        return value

    @field_validator("cleanup")
    @classmethod
    def _are_statuses(cls, value: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        for first, last in value:
            if not STATUS_FIRST <= first <= last <= STATUS_LAST:
                raise ValueError(f"'{first}-{last}' must lie within 200-599 and begin before it ends")
        return value

    @model_validator(mode="after")
    def _agree(self) -> "Route":
        if bool(self.path) == bool(self.prefix):
            raise ValueError("a route needs either path or prefix")
        if self.action == "hide":
            self._refuse_other_settings()
            return self
        if not self.upstream:
            raise ValueError(f"the route {self.place} needs an upstream")
        if self.action == "upload" and (self.store is None) == (not self.store_s3):
            raise ValueError(
                f"the upload route {self.place} needs a store, the folder for its files, or else store_s3"
            )
        if self.action == "forward":
            self._refuse_upload_settings()
        self._refuse_forgeable_paths()
        return self

    def _refuse_forgeable_paths(self) -> None:
        for name, value in (self.set_fields | self.aggregate_fields).items():
            carries_path = "upload_tmp_path" in parse_template(value, aggregate=True).variables
            if carries_path and self.pass_fields and not parse_template(name, aggregate=False).has_text:
                raise ValueError(
                    f"the route {self.place} sends a path in the field '{name}', and passes fields of the client,"
                    " who could send one of the same name: call it '$upload_field_name.path'"
                )

    def _refuse_upload_settings(self) -> None:
        common = {"path", "prefix", "action", "upstream", "max_body_bytes", "auth_url", *_CIRCUIT_SETTINGS}
        for name in sorted(self.model_fields_set - common):
            raise ValueError(f"the route {self.place} has '{name}', which needs action = \"upload\"")

    def _refuse_other_settings(self) -> None:
        for name in sorted(self.model_fields_set - {"path", "prefix", "action"}):
            raise ValueError(f"the route {self.place} has '{name}', but action = \"hide\" only answers 404")

    @property
    def place(self) -> str:
        """How the route is called in messages."""
        return self.path or self.prefix

    @property
    def set_templates(self) -> dict[str, str]:
        """The fields known before a file's data, the short ones first."""
        return self._short(known_before=True) | self.set_fields

    @property
    def aggregate_templates(self) -> dict[str, str]:
        """The fields known after a file's last byte, the short ones first."""
        return self._short(known_before=False) | self.aggregate_fields

    def _short(self, *, known_before: bool) -> dict[str, str]:
        return {
            f"$upload_field_name.{name}": f"${FILE_FIELDS[name]}"
            for name in self.file_fields
            if (name in _KNOWN_BEFORE_DATA) == known_before
        }

    @cached_property
    def _normal_place(self) -> str:
        return normal_path(self.path) if self.path else normal_path(self.prefix).rstrip("/")

    def matches(self, path: str) -> bool:
        """Whether a request for this path, as ``normal_path`` gives it, is this route's."""
        if self.path:
            return path == self._normal_place
        return path == self._normal_place or path.startswith(self._normal_place + "/")

    def removes_on(self, status: int) -> bool:
        """Whether the files are removed when the backend answers with ``status``."""
        return any(first <= status <= last for first, last in self.cleanup)


def normal_path(path: str) -> str:
    """A request's path as backends understand it: decoded, without ``//``, ``.`` and ``..``.

    Routes are chosen by this, or a guarded path could be reached by another spelling through another route.
    """
    if _NORMAL_PATH.fullmatch(path):
        return path
    steps: list[str] = []
    decoded = unquote(path, errors="surrogateescape")
    for step in decoded.split("/"):
        if step == "..":
            del steps[-1:]
        elif step not in {"", "."}:
            steps.append(step)
    end = "/" if steps and decoded.endswith(("/", "/.", "/..")) else ""
    return "/" + "/".join(steps) + end


def find_route(routes: Iterable[Route], path: str) -> Route | None:
    """The first route for a request's path (percent-encoded, without query)."""
    normal = normal_path(path)
    return next((route for route in routes if route.matches(normal)), None)
