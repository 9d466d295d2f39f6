"""Tests of the form that a backend gets: what Flask reads in it, and that nobody else can have written it."""

import hashlib
import hmac
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data

from gateway.errors import BadForm, BodyTooLarge
from gateway.upload.disposition import parse_boundary
from gateway.upload.plan import StoredFile
from gateway.upload.rewritten import EncodedForm, FormSigner, RewrittenForm
from tests.support.forms import read_form
from tests.unit.gateway.upload.test_plan import INCUMBENT, file_part, plan_of

STORED = StoredFile(path="/s/1/0a", size=5, digests={"md5": "5d41", "sha256": "2cf2"})
DOCS = Path(__file__).parents[4] / "docs" / "upload-routes.md"


def _form(**more: Any) -> RewrittenForm:
    return RewrittenForm(plan_of(**{**INCUMBENT, **more}), {})


def _read(form: EncodedForm) -> list[tuple[str, bytes]]:
    parts = read_form(form.body, parse_boundary(form.content_type))
    assert all(part.filename is None and part.begin.content_type is None for part in parts)
    return [(part.name, part.data) for part in parts]


def test_the_incumbents_form_arrives_as_its_view_reads_it() -> None:
    form = _form()
    form.add_field("collection", b"1")
    form.add_file(file_part(content_type="application/octet-stream"), STORED)
    form.add_field("csrfmiddlewaretoken", b"x")
    form.add_field("tag", b"latest")
    encoded = form.encode()
    assert _read(encoded) == [
        ("collection", b"1"),
        ("file1.name", b"a.sif"),
        ("file1.content_type", b"application/octet-stream"),
        ("file1.path", b"/s/1/0a"),
        ("file1.md5", b"5d41"),
        ("file1.size", b"5"),
        ("tag", b"latest"),
    ]
    _, fields, files = parse_form_data(
        {
            "wsgi.input": io.BytesIO(encoded.body),
            "CONTENT_LENGTH": str(len(encoded.body)),
            "CONTENT_TYPE": encoded.content_type,
            "REQUEST_METHOD": "POST",
        }
    )
    assert fields["file1.path"] == "/s/1/0a"
    assert not files


def test_a_form_with_nothing_to_send_is_an_empty_form() -> None:
    assert _read(_form().encode()) == []


def test_defect_7_a_forged_field_is_dropped_wherever_it_stands() -> None:
    form = _form(pass_fields=[".*"])
    form.add_field("file1.path", b"/etc/passwd")
    form.add_file(file_part(), STORED)
    for name in ("file1.path", "FILE1.path", "file1_path", "file9.path", "file1_md5"):
        form.add_field(name, b"/etc/passwd")
    form.add_field("description", b"kept")
    read = _read(form.encode())
    assert [value for name, value in read if name == "file1.path"] == [b"/s/1/0a"]
    assert b"/etc/passwd" not in [value for _, value in read]
    assert ("description", b"kept") in read


def test_a_forged_field_is_dropped_even_if_its_name_could_be_any() -> None:
    form = RewrittenForm(
        plan_of(pass_fields=["."], set_fields={"$upload_field_name": "$upload_file_name"}), {}
    )
    form.add_field("file1", b"forged")
    form.add_field("other", b"kept")
    form.add_file(file_part(), STORED)
    assert _read(form.encode()) == [("other", b"kept"), ("file1", b"a.sif")]


def test_a_file_cannot_be_named_so_that_its_field_is_taken_for_another() -> None:
    fields = {"$upload_field_name": "$upload_file_name", "$upload_field_name.path": "$upload_tmp_path"}
    form = RewrittenForm(plan_of(set_fields=fields), {})
    with pytest.raises(BadForm, match=r"file1\.path"):
        form.add_file(file_part("file1.path"), STORED)


def test_files_are_numbered_and_each_has_its_fields() -> None:
    form = RewrittenForm(
        plan_of(tame_arrays=True, set_fields={"$upload_field_name.$upload_file_number": "$upload_file_name"}),
        {},
    )
    for name in ("a", "b"):
        form.add_file(file_part("f[]", name), STORED)
    assert _read(form.encode()) == [("f.1", b"a"), ("f.2", b"b")]


def test_a_field_whose_name_comes_out_empty_is_left_out() -> None:
    form = RewrittenForm(plan_of(set_fields={"$arg_field": "x", "y": "$arg_field"}), {"arg_field": ""})
    form.add_file(file_part(), STORED)
    assert _read(form.encode()) == [("y", b"")]


@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
def test_the_output_limit_counts_names_and_values_once(size: int, fits: bool) -> None:
    form = RewrittenForm(plan_of(pass_fields=["."], max_output_bytes=100), {})
    form.add_field("12345", b"x" * 45)
    rest = b"y" * (size - 50 - 5)
    if fits:
        form.add_field("54321", rest)
        assert len(_read(form.encode())) == 2
    else:
        with pytest.raises(BodyTooLarge):
            form.add_field("54321", rest)


def test_dropped_fields_do_not_count() -> None:
    form = RewrittenForm(plan_of(pass_fields=["^a$"], max_output_bytes=10), {})
    form.add_field("b", b"x" * 1000)
    assert _read(form.encode()) == []


def test_no_limit_is_no_limit() -> None:
    form = RewrittenForm(plan_of(pass_fields=["."], max_output_bytes=0), {})
    form.add_field("a", b"x" * 1_000_000)
    assert len(form.encode().body) > 1_000_000


def test_the_boundary_is_new_for_each_form() -> None:
    assert len({_form().encode().content_type for _ in range(100)}) == 100


hostile = st.text(st.sampled_from("ab\"\r\n-;=\\%'é\0 "), max_size=12)


@given(hostile.filter(bool), hostile, hostile, st.binary(max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_name_and_no_value_breaks_out_of_its_part(
    name: str, filename: str, kind: str, value: bytes
) -> None:
    form = RewrittenForm(
        plan_of(pass_fields=["."], set_fields={"n": "$upload_file_name", "t": "$upload_content_type"}), {}
    )
    form.add_field("z" + name, value)
    form.add_file(file_part(name, filename, kind), STORED)
    encoded = form.encode()
    boundary = encoded.content_type.removeprefix("multipart/form-data; boundary=").encode()
    parts = encoded.body.split(b"--" + boundary)
    assert len(parts) == 5
    heads = [part.split(b"\r\n\r\n", 1)[0] for part in parts[1:4]]
    assert all(head.count(b"\r\n") == 1 and head.count(b'"') == 2 for head in heads)
    assert [part.split(b"\r\n\r\n", 1)[1] for part in parts[1:4]] == [
        value + b"\r\n", filename.encode() + b"\r\n", kind.encode() + b"\r\n",
    ]  # fmt: skip


def test_the_signature_covers_all_that_matters() -> None:
    form = EncodedForm(body=b"body", content_type="multipart/form-data; boundary=x")
    said = "\n".join(
        ["v1", "1700000000", "POST", "/done?a=b", form.content_type, hashlib.sha256(b"body").hexdigest()]
    )
    expected = hmac.new(b"key", said.encode(), "sha256").hexdigest()
    signed = FormSigner(b"key").sign(form, method="POST", target="/done?a=b", now=1_700_000_000.9)
    assert signed == ("x-upload-signature", f"v1 1700000000 {expected}")


def _documented_verifier() -> Any:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)
    assert len(code.strip().splitlines()) <= 12
    return space["is_from_gateway"]


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ({}, True),
        ({"body": b"Body"}, False),
        ({"method": "PUT"}, False),
        ({"target": "/done"}, False),
        ({"content_type": "multipart/form-data; boundary=y"}, False),
        ({"key": b"yek"}, False),
        ({"now": 1_700_000_299}, True),
        ({"now": 1_700_000_301}, False),
        ({"header": ""}, False),
        ({"header": "v1 x y"}, False),
        ({"header": "v2 1700000000 00"}, False),
        ({"header": "v1 1700000000 \xe9"}, False),  # what WSGI makes of a byte: neither accepted nor a crash
        ({"header": f"v1 {'9' * 5000} 00"}, False),
        ({"header": f"v1 {'9' * 400} 00"}, False),
        ({"header": "v1 1700000000\x00 00"}, False),
    ],
)
def test_the_documented_verifier_accepts_ours_and_nothing_else(
    change: dict[str, Any], accepted: bool
) -> None:
    form = EncodedForm(body=b"body", content_type="multipart/form-data; boundary=x")
    _, header = FormSigner(b"key").sign(form, method="POST", target="/done?a=b", now=1_700_000_000)
    given = {
        "key": b"key", "method": "POST", "target": "/done?a=b", "content_type": form.content_type, "body": form.body,
        "header": header, "now": 1_700_000_010,
    }  # fmt: skip
    assert _documented_verifier()(**{**given, **change}) is accepted
