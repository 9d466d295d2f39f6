"""Tests of what becomes of each part on an upload route, and of what a client can not do to it."""

import time
import tracemalloc
from typing import Any

import pytest

from gateway.http.head import Fields, RequestHead, Sized
from gateway.settings_routes import Route
from gateway.upload.form import PartBegin
from gateway.upload.plan import StoredFile, UploadPlan, file_values, make_plan, must_remove, request_values

INCUMBENT: dict[str, Any] = {
    "set_fields": {
        "$upload_field_name.name": "$upload_file_name",
        "$upload_field_name.content_type": "$upload_content_type",
        "$upload_field_name.path": "$upload_tmp_path",
    },
    "aggregate_fields": {
        "$upload_field_name.md5": "$upload_file_md5",
        "$upload_field_name.size": "$upload_file_size",
    },
    "pass_fields": [r"^submit$|^description$", "^collection$", "^name$", "^tag$"],
    "cleanup": ["400-599"],
}


def make_route(**settings: Any) -> Route:
    common = {"path": "/upload", "action": "upload", "upstream": "http://127.0.0.1:1", "store": "/s"}
    return Route.model_validate({**common, **settings})


def plan_of(**settings: Any) -> UploadPlan:
    return make_plan(make_route(**settings))


def file_part(name: str = "file1", filename: str = "a.sif", content_type: str | None = None) -> PartBegin:
    return PartBegin(
        name=name, filename=filename, filename_as_sent=filename, content_type=content_type, headers=()
    )


def test_only_fields_that_a_pattern_names_are_passed() -> None:
    plan = plan_of(**INCUMBENT)
    names = ["submit", "collection", "name", "tag", "csrfmiddlewaretoken", "Name", "names", "", "submit2"]
    assert [name for name in names if plan.passes(name)] == ["submit", "collection", "name", "tag"]


def test_without_patterns_no_field_is_passed() -> None:
    assert not plan_of().passes("name")


def test_patterns_match_anywhere_as_in_the_module() -> None:
    plan = plan_of(pass_fields=["scription", "^a"])
    assert [plan.passes(name) for name in ("description", "ab", "ba")] == [True, True, False]


@pytest.mark.parametrize(
    "name",
    [
        "file1.path",
        "x.path",
        ".path",
        "FILE1.PATH",
        "file1_path",
        "file1 path",
        "file1[path",
        "file1.path[]",
        "file1.path[0]",
        "file1.path[a][b]",
        "file1.path[a]b",
        " file1.path",
        "[file1.path]",
        "]file1.path",
        "file1.path]",
        "file1.path" + "[]" * 17,
        "file1.md5",
        "a.b.size",
    ],
)
def test_defect_7_a_client_cannot_send_a_field_that_we_generate(name: str) -> None:
    assert not plan_of(**{**INCUMBENT, "pass_fields": [""]}).passes(name)


@pytest.mark.parametrize("name", ["pathology", "file1.path2", "path", "first_name", "description", "file1"])
def test_fields_that_only_look_similar_are_passed(name: str) -> None:
    assert plan_of(**{**INCUMBENT, "pass_fields": [""]}).passes(name)


def test_names_in_brackets_are_protected_with_all_that_lies_within() -> None:
    plan = plan_of(aggregate_fields={"$upload_field_name[path]": "$upload_tmp_path"}, pass_fields=[""])
    assert not any(map(plan.passes, ("a[path]", "a[path][]", "a[path][x][y]", "a[Path]", "a_path]")))
    assert all(map(plan.passes, ("a", "a[]", "a[other]", "a[paths]", "path")))


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        ("a=1&b=2", "a=1&b=2"),
        ("a;b=%41&&c", "a;b=%41&&c"),
        ("", ""),
        ("f.path=/etc/passwd", ""),
        ("a=1&f.path=/etc/passwd&b=2", "a=1&b=2"),
        ("a=1;F_path=/etc/passwd;b", "a=1;b"),
        ("f.path=x;a;b&c", "a;b&c"),
        ("%66%2epath=x&a", "a"),
        ("f+path=x&a", "a"),
        ("f.path[]=x&a", "a"),
        ("f.path", ""),
        ("a=f.path", "a=f.path"),
        ("n" * 600 + "=1", ""),
        # PHP ends a name at its first NUL.
        ("f.path%00x=/etc/passwd&a=1", "a=1"),
        ("f.path%0d=1", ""),
    ],
)
def test_no_argument_of_the_request_is_taken_for_a_generated_field(query: str, passed: str) -> None:
    assert plan_of(file_fields=["path"]).passed_query(query) == passed


def test_no_name_keeps_the_patterns_of_generated_names_busy() -> None:
    name = "$upload_field_name-a$upload_file_name-a$upload_content_type-a$upload_file_number.path"
    plan = plan_of(set_fields={name: "$upload_tmp_path"}, pass_fields=[""])
    began = time.perf_counter()
    assert plan.passes("-a" * 250)
    assert plan.passes("-a" * 200 + "[-a]" * 15)
    assert not plan.passes("-a" * 250 + ".path")
    assert time.perf_counter() - began < 1  # it was 11 s, and the event loop stood still


@pytest.mark.parametrize(
    ("name", "is_passed"),
    [
        ("x-y.path", False),
        ("-.path", False),
        ("x-y-z.path.path", False),
        ("xy.path", True),
        ("x-.pat", True),
        ("x-y.paths", True),
        (".path-", True),
    ],
)
def test_a_generated_name_may_have_any_text_in_the_place_of_each_variable(name: str, is_passed: bool) -> None:
    plan = plan_of(
        set_fields={"$upload_field_name-$upload_file_name.path": "$upload_tmp_path"}, pass_fields=[""]
    )
    assert plan.passes(name) is is_passed


def test_a_name_of_kilobytes_is_not_passed() -> None:
    plan = plan_of(pass_fields=[""])
    assert [plan.passes("n" * length) for length in (511, 512, 513)] == [True, True, False]


def test_only_the_digests_that_a_field_uses_are_computed() -> None:
    assert plan_of(**INCUMBENT).digests == {"md5"}
    assert plan_of(file_fields=["sha256", "crc32", "size"]).digests == {"sha256", "crc32"}
    assert plan_of(aggregate_fields={"x": "$upload_file_sha512_uc"}).digests == {"sha512"}
    assert plan_of().digests == frozenset()


def test_the_limits_are_the_routes() -> None:
    limits = plan_of(
        max_files=1, max_fields=2, max_field_bytes=3, max_part_header_bytes=100, max_total_bytes=5
    ).limits
    assert (limits.files, limits.fields, limits.field_bytes) == (1, 2, 3)
    assert (limits.header_bytes, limits.total_bytes) == (100, 5)


def test_every_variable_of_a_file_has_its_value() -> None:
    stored = StoredFile(path="/s/1/x", size=10, digests={"md5": "ab", "crc32": "0000000f"})
    used = {f"x{n}": f"$upload_file_{name}" for n, name in enumerate(("md5", "md5_uc", "crc32", "crc32_uc"))}
    values = file_values(plan_of(aggregate_fields=used), file_part(content_type="a/b"), stored, number=2)
    assert values == {
        "upload_field_name": "file1",
        "upload_file_name": "a.sif",
        "upload_content_type": "a/b",
        "upload_tmp_path": "/s/1/x",
        "upload_file_number": "2",
        "upload_content_range": "bytes 0-9/10",
        "upload_file_size": "10",
        "upload_file_md5": "ab",
        "upload_file_md5_uc": "AB",
        "upload_file_crc32": "0000000f",
        "upload_file_crc32_uc": "0000000F",
    }


def test_an_empty_file_has_no_range() -> None:
    values = file_values(plan_of(), file_part(), StoredFile(path="/p", size=0, digests={}), number=1)
    assert values["upload_content_range"] == "bytes */0"
    assert values["upload_content_type"] == ""


@pytest.mark.parametrize(
    ("sent", "tamed"), [("f[]", "f"), ("f[0]", "f[0]"), ("[]", "[]"), ("f", "f"), ("f[][]", "f[]")]
)
def test_arrays_are_tamed_where_the_route_says_so(sent: str, tamed: str) -> None:
    assert plan_of(tame_arrays=True).field_name(file_part(sent)) == tamed
    assert plan_of().field_name(file_part(sent)) == sent


def test_variables_of_the_request_are_taken_from_its_head() -> None:
    plan = plan_of(
        set_fields={
            "ip": "$remote_addr", "id": "$request_id", "agent": "$http_user_agent", "t": "$arg_token",
            "none": "$http_x_none$arg_none", "q": "$args", "u": "$uri", "h": "$host", "s": "$scheme",
        }
    )  # fmt: skip
    head = RequestHead(
        method="POST",
        target="/upload?token=a%20b&token=c",
        fields=Fields([("host", "H:1"), ("user-agent", "t\xc3\xa9")]),
        framing=Sized(1),
    )
    assert request_values(plan, head, client="1.2.3.4", scheme="https", request_id="R") == {
        "remote_addr": "1.2.3.4", "request_id": "R", "http_user_agent": "té", "arg_token": "a%20b",
        "http_x_none": "", "arg_none": "", "args": "token=a%20b&token=c", "uri": "/upload", "host": "h:1",
        "scheme": "https",
    }  # fmt: skip


def test_files_stay_unless_the_backend_refuses_them_or_never_heard_of_them() -> None:
    route = make_route(**INCUMBENT)
    assert [must_remove(route, status=status) for status in (200, 302, 400, 503, None)] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert [must_remove(make_route(), status=status) for status in (500, None)] == [False, True]


def test_a_client_cannot_fill_the_memory_with_names() -> None:
    """One wide letter makes each of a name's 8,000 take four bytes."""
    plan = plan_of(**{**INCUMBENT, "pass_fields": [""]})
    tracemalloc.start()
    try:
        for number in range(300):
            name = f"{number}\U0001f600" + "x" * 8000
            plan.generated_names(name, {"upload_field_name": name})
            plan.passes(name[:512])
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [63, 64, 65, 513])
def test_what_is_remembered_of_a_name_is_what_was_said_of_it(length: int) -> None:
    plan = plan_of(**{**INCUMBENT, "pass_fields": [""]})
    name = "n" * length
    for _ in range(2):
        assert plan.passes(name) == (length <= 512)
        assert not plan.passes(f"{name}.path"[-length:])
        names = plan.generated_names(name, {"upload_field_name": name})
        assert names[:3] == (f"{name}.name", f"{name}.content_type", f"{name}.path")
