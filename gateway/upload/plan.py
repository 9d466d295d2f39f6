"""Owns what becomes of each part of a form on an upload route: passed, replaced by fields, or dropped.

Pure. A plan is made once from its route; ``rewritten.py`` applies it to one form.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final
from urllib.parse import unquote_plus

from gateway.errors import BadForm
from gateway.http.head import RequestHead
from gateway.settings_routes import Route
from gateway.template import DIGEST_VARIABLES, Template, is_request_variable, parse_template
from gateway.upload.form import FormLimits, PartBegin

# Longer names are never passed: no form of this world has them, and every pattern is tried on each name.
NAME_MAX_CHARS: Final = 512
# Longer names are not remembered: a client could fill the memory with them.
REMEMBERED_CHARS: Final = 64
_FIELD_NAME: Final = "upload_field_name"
# PHP makes one name of `file.path`, `file path`, `file[path` and `file_path`.
_ALIKE: Final = str.maketrans({" ": "_", ".": "_", "[": "_"})
# PHP and Rack read `file.path[]` and `file.path[x][y]` as a list or a table of the name before the brackets.
_NESTED: Final = re.compile(r"([^\[]+)((?:\[[^\]]*\])+)")
_KEY: Final = re.compile(r"\[[^\]]*\]")
_KEYS_MAX: Final = 16
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# Frameworks have split a query at either.
_SEPARATOR: Final = re.compile("([&;])")


def remembering[T](judge: Callable[[str], T]) -> Callable[[str], T]:
    """``judge``, asked once for each name of a usual length."""
    remembered = lru_cache(maxsize=1024)(judge)
    return lambda name: remembered(name) if len(name) <= REMEMBERED_CHARS else judge(name)


def alike(name: str) -> str:
    """One spelling for all names that some backend takes for the same but for brackets."""
    return name.translate(_ALIKE).lower()


@remembering
def spellings(name: str) -> frozenset[str]:
    """Every name, as ``alike`` gives it, that some backend takes this one for."""
    bare = name.lstrip(" []")  # PHP drops spaces in front, Rack brackets at both ends
    names = {name, bare, bare.rstrip("]")}
    if nested := _NESTED.match(bare):
        outer = nested[1]
        names.add(outer)
        for key in _KEY.findall(nested[2]):
            outer += key
            names.add(outer)
    return frozenset(map(alike, names))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that lies in the route's store. ``digests`` maps names of ``template.DIGESTS`` to lower-case hex."""

    path: str
    size: int
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One field to send for each file. ``reserved`` matches the names that it can make, None if it could be any.

    ``reserved_alike`` is for fields that carry a path, which a backend trusts: the same for every spelling that
    some backend takes for the same name.
    """

    name: Template
    value: Template
    reserved: re.Pattern[str] | None
    reserved_alike: re.Pattern[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """What a route does with a form.

    digests: what must be computed for each file; digest_variables: which variables give them.
    request_variables: what must be known of the request.
    is_reserved: whether some backend may take this name (not too long) for that of a generated field.
    is_passed: whether a plain field of this name (not too long) is sent on.
    names_of: the names of the generated fields, from a file's field name, for routes whose names depend on nothing
        else. Raises: BadForm. Both remember what they said: forms repeat their names, and every pattern costs.
    """

    generated: tuple[Generated, ...]
    is_reserved: Callable[[str], bool]
    is_passed: Callable[[str], bool]
    names_of: Callable[[str], "tuple[str, ...]"] | None
    digest_variables: Mapping[str, str]
    digests: frozenset[str]
    request_variables: frozenset[str]
    tame_arrays: bool
    max_output_bytes: int
    limits: FormLimits

    def passes(self, name: str) -> bool:
        """Whether a plain field of this name is sent on: allowed by a pattern, and no name that we generate."""
        return _is_plausible(name) and self.is_passed(name)

    def passed_query(self, query: str) -> str:
        """A request's query without the arguments that a backend could take for generated fields.

        Many frameworks look a name up in both, and the signature vouches for the target.
        """
        pieces = _SEPARATOR.split(query)
        kept = [n for n in range(0, len(pieces), 2) if not self._is_forged(pieces[n])]
        # Each with the separator before it: what stays, stays byte for byte.
        return "".join(pieces[n] if n == kept[0] else pieces[n - 1] + pieces[n] for n in kept)

    def _is_forged(self, argument: str) -> bool:
        name = unquote_plus(argument.partition("=")[0])
        # PHP ends a name at its first NUL. No part of a form that we take has controls in its name; a query may.
        return not _is_plausible(name) or bool(_CONTROL.search(name)) or self.is_reserved(name)

    def field_name(self, part: PartBegin) -> str:
        """The field name of a file, tamed if the route says so."""
        if self.tame_arrays and part.name.endswith("[]") and len(part.name) > len("[]"):
            return part.name[: -len("[]")]
        return part.name

    def generated_names(self, field_name: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """The names of the generated fields for one file, in order, "" for one that is left out. Raises: BadForm."""
        if self.names_of is not None:
            return self.names_of(field_name)
        return _make_names(self.generated, field_name, values)


def make_plan(route: Route) -> UploadPlan:
    """The plan of an upload route, whose settings are valid."""
    generated = [_generate(*pair, aggregate=False) for pair in route.set_templates.items()]
    generated += [_generate(*pair, aggregate=True) for pair in route.aggregate_templates.items()]
    names = frozenset[str]().union(*(field.name.variables for field in generated))
    variables = names.union(*(field.value.variables for field in generated))
    digest_variables = {name: DIGEST_VARIABLES[name] for name in variables if name in DIGEST_VARIABLES}
    is_reserved = remembering(partial(_is_any_reserved, tuple(generated)))
    return UploadPlan(
        generated=tuple(generated),
        is_reserved=is_reserved,
        is_passed=remembering(partial(_is_passed, tuple(map(re.compile, route.pass_fields)), is_reserved)),
        names_of=remembering(partial(_names_from, tuple(generated))) if names <= {_FIELD_NAME} else None,
        digest_variables=digest_variables,
        digests=frozenset(digest_variables.values()),
        request_variables=frozenset(name for name in variables if is_request_variable(name)),
        tame_arrays=route.tame_arrays,
        max_output_bytes=route.max_output_bytes,
        limits=FormLimits(
            fields=route.max_fields,
            files=route.max_files,
            field_bytes=route.max_field_bytes,
            header_bytes=route.max_part_header_bytes,
            total_bytes=route.max_total_bytes,
        ),
    )


def must_remove(route: Route, *, status: int | None) -> bool:
    """Whether a form's files are removed in the end. ``status`` is the backend's, None if it never got the form.

    A client that went away changes nothing: the backend may have taken the file over already.
    """
    return status is None or route.removes_on(status)


def file_values(plan: UploadPlan, part: PartBegin, stored: StoredFile, *, number: int) -> dict[str, str]:
    """The variables of one stored file. ``number`` counts the form's files from 1."""
    values = {
        "upload_field_name": plan.field_name(part),
        "upload_file_name": part.filename or "",
        "upload_content_type": part.content_type or "",
        "upload_tmp_path": stored.path,
        "upload_file_number": str(number),
        "upload_content_range": f"bytes 0-{stored.size - 1}/{stored.size}" if stored.size else "bytes */0",
        "upload_file_size": str(stored.size),
    }
    for variable, digest in plan.digest_variables.items():
        value = stored.digests[digest]
        values[variable] = value.upper() if variable.endswith("_uc") else value
    return values


def request_values(
    plan: UploadPlan, head: RequestHead, *, client: str, scheme: str, request_id: str
) -> dict[str, str]:
    """The variables of the request that the plan needs."""
    plain = {
        "remote_addr": client,
        "request_id": request_id,
        "request_method": head.method,
        "request_uri": head.target,
        "uri": head.path,
        "args": head.query,
        "host": head.host,
        "scheme": scheme,
    }
    return {
        name: plain[name] if name in plain else _sent_value(name, head) for name in plan.request_variables
    }


def _sent_value(variable: str, head: RequestHead) -> str:
    kind, _, name = variable.partition("_")
    if kind == "http":
        sent = head.fields.get(name.replace("_", "-").lower())
        return sent.encode("latin-1", "replace").decode("utf-8", "replace")
    for pair in head.query.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return value
    return ""


def _generate(name: str, value: str, *, aggregate: bool) -> Generated:
    template = parse_template(name, aggregate=False)
    filled = parse_template(value, aggregate=aggregate)
    reserved = reserved_alike = None
    if template.has_text:
        reserved = _pattern(template, re.escape)
        if "upload_tmp_path" in filled.variables:
            reserved_alike = _pattern(template, lambda text: re.escape(alike(text)))
    return Generated(name=template, value=filled, reserved=reserved, reserved_alike=reserved_alike)


def _pattern(template: Template, escape: Callable[[str], str]) -> re.Pattern[str]:
    texts = [""]
    for piece in template.pieces:
        if isinstance(piece, str):
            texts[-1] += escape(piece)
        elif len(texts) == 1 or texts[-1]:
            texts.append("")
    # Where one text was found first is as good as any later place: without that, a client's name is tried in every way
    # it can be split, which took 11 s for 512 characters and four variables.
    first, *between = texts
    last = ".*" + between.pop() if between else ""
    return re.compile(first + "".join(f"(?>.*?{text})" for text in between) + last, re.DOTALL)


def _is_plausible(name: str) -> bool:
    return len(name) <= NAME_MAX_CHARS and name.count("[") <= _KEYS_MAX


def _is_passed(patterns: Sequence[re.Pattern[str]], is_reserved: Callable[[str], bool], name: str) -> bool:
    return any(pattern.search(name) for pattern in patterns) and not is_reserved(name)


def _is_any_reserved(generated: Sequence[Generated], name: str) -> bool:
    return any(_is_reserved(name, field) for field in generated)


def _names_from(generated: tuple[Generated, ...], field_name: str) -> tuple[str, ...]:
    return _make_names(generated, field_name, {_FIELD_NAME: field_name})


def _make_names(
    generated: tuple[Generated, ...], field_name: str, values: Mapping[str, str]
) -> tuple[str, ...]:
    names = tuple(field.name.fill(values) for field in generated)
    for name, field in zip(names, generated, strict=True):
        # An empty one is the module's way to leave a field out.
        if name and any(other is not field and _is_reserved(name, other) for other in generated):
            raise BadForm(f"A file must not be sent in a field of the name '{field_name[:80]}' here.")
    return names


def _is_reserved(name: str, field: Generated) -> bool:
    reserved = field.reserved_alike
    if reserved and any(reserved.fullmatch(spelling) for spelling in spellings(name)):
        return True
    return bool(field.reserved and field.reserved.fullmatch(name))
