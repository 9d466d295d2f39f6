"""Tests of the settings of routes: each mistake has its sentence, and paths are matched as backends read them."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings_routes import Route, find_route, normal_path

UPLOAD: dict[str, Any] = {
    "path": "/upload",
    "action": "upload",
    "upstream": "http://127.0.0.1:8000",
    "store": "/s",
}


def _route(**settings: Any) -> Route:
    return Route.model_validate({**UPLOAD, **settings})


def test_the_defaults_are_safe() -> None:
    route = _route()
    assert route.pass_fields == ()
    assert route.store_access == 0o600
    assert route.fsync
    assert route.max_file_bytes == 0
    assert not route.cleanup


def test_short_names_stand_for_the_modules_templates() -> None:
    route = _route(file_fields=["name", "path", "sha256", "size"], set_fields={"x": "$upload_field_name"})
    assert route.set_templates == {
        "$upload_field_name.name": "$upload_file_name",
        "$upload_field_name.path": "$upload_tmp_path",
        "x": "$upload_field_name",
    }
    assert route.aggregate_templates == {
        "$upload_field_name.sha256": "$upload_file_sha256",
        "$upload_field_name.size": "$upload_file_size",
    }


ACCESS = {
    "user:rw": 0o600,
    "user:r": 0o600,
    "user:rw group:rw all:rw": 0o666,
    "user:rw group:r all:r": 0o644,
    "group:r": 0o640,
    "0640": 0o640,
    "666": 0o666,
}


@pytest.mark.parametrize(("text", "mode"), ACCESS.items())
def test_access_bits_read_as_in_nginx_or_octal(text: str, mode: int) -> None:
    assert _route(store_access=text).store_access == mode


CLEANUP = {"404": (404, 404), "400-599": (400, 599), 499: (499, 499), "200-599": (200, 599)}


@pytest.mark.parametrize(("text", "statuses"), CLEANUP.items())
def test_cleanup_reads_statuses_and_ranges(text: str | int, statuses: tuple[int, int]) -> None:
    route = _route(cleanup=[text])
    first, last = statuses
    assert [route.removes_on(s) for s in (first - 1, first, last, last + 1)] == [False, True, True, False]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"path": ""}, "either path or prefix"),
    ({"prefix": "/x"}, "either path or prefix"),
    ({"path": "upload"}, "begins with '/'"),
    ({"path": "/a b"}, "begins with '/'"),
    ({"pass_to": "/a?b=c"}, "without query"),
    ({"upstream": ""}, "/upload needs an upstream"),
    ({"upstream": "https://x"}, "http://HOST:PORT"),
    ({"upstream": "http://x/path"}, "http://HOST:PORT"),
    ({"upstream": "127.0.0.1:8000"}, "http://HOST:PORT"),
    ({"upstream": "http://a b:8000"}, "http://HOST:PORT"),
    ({"upstream": "http://a:b"}, "http://HOST:PORT"),
    ({"store": None}, "needs a store"),
    ({"store_levels": [1, 2, 1, 1]}, "at most three"),
    ({"store_levels": [0]}, "from 1 to 3"),
    ({"store_access": "user:x"}, "user:rw group:r"),
    ({"store_access": "rw"}, "user:rw group:r"),
    ({"store_access": "0200"}, "greater than or equal"),
    ({"cleanup": ["4xx"]}, "no status"),
    ({"cleanup": ["100-200"]}, "200-599"),
    ({"cleanup": ["500-400"]}, "200-599"),
    ({"pass_fields": ["("]}, "not a regular expression"),
    ({"file_fields": ["sha3"]}, "is not one of name, content_type, path"),
    ({"set_fields": {"$upload_field_name.md5": "$upload_file_md5"}}, "aggregate_fields"),
    ({"set_fields": {"$nosuch": "x"}}, "unknown variable"),
    ({"aggregate_fields": {"$upload_file_md5": "x"}}, "aggregate_fields"),
    (
        {"set_fields": {"$upload_field_name": "$upload_tmp_path"}, "pass_fields": ["."]},
        "one of the same name",
    ),
    ({"max_files": 0}, "greater than or equal to 1"),
    ({"auth_url": "auth"}, "must be a path"),
    ({"auth_url": "https://x/auth"}, "must be a path"),
    ({"nosuch": 1}, "Extra inputs"),
    ({"action": "forward", "store": "/s"}, "'store', which needs action"),
    ({"store": "/srv/$arg_user"}, "there are no variables here"),
    ({"store": None, "store_s3": "bucket/$arg_user"}, "there are no variables here"),
    ({"action": "hide"}, "'store', but action = \"hide\" only answers 404"),
    ({"action": "hide", "store": "/s", "path": ""}, "either path or prefix"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG)
def test_a_mistake_is_told_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        _route(**settings)


def test_a_route_that_hides_has_a_place_and_nothing_else() -> None:
    assert Route.model_validate({"prefix": "/internal", "action": "hide"}).matches("/internal/x")
    for more in ({"upstream": "http://127.0.0.1:1"}, {"auth_url": "/a"}, {"max_body_bytes": 1}):
        with pytest.raises(ValidationError, match="only answers 404"):
            Route.model_validate({"prefix": "/internal", "action": "hide", **more})


def test_a_path_field_may_have_any_name_when_no_client_field_is_passed() -> None:
    assert _route(set_fields={"$upload_field_name": "$upload_tmp_path"}).set_fields


NORMAL = {
    "/": "/",
    "/a/b": "/a/b",
    "/a/": "/a/",
    "//a///b": "/a/b",
    "/a/./b": "/a/b",
    "/a/../b": "/b",
    "/../../a": "/a",
    "/a/b/..": "/a/",
    "/a/%2e%2E/b": "/b",
    "/%61%2Fb": "/a/b",
    "/t%C3%A9": "/té",
}


@pytest.mark.parametrize(("sent", "normal"), NORMAL.items())
def test_a_path_is_read_as_a_backend_reads_it(sent: str, normal: str) -> None:
    assert normal_path(sent) == normal


def test_the_first_route_that_matches_is_taken() -> None:
    routes = (
        _route(),
        Route.model_validate({"prefix": "/admin", "upstream": "http://127.0.0.1:1", "auth_url": "/auth"}),
        Route.model_validate({"prefix": "/", "upstream": "http://127.0.0.1:2"}),
    )
    expected = {
        "/upload": 0, "/upload/": 2, "/uploads": 2, "/%75pload": 0, "//upload": 0,
        "/admin": 1, "/admin/x": 1, "/administer": 2, "/x/../admin/y": 1, "/x/%2e%2e/admin": 1, "/": 2, "/x": 2,
    }  # fmt: skip
    assert {path: routes.index(find_route(routes, path) or routes[0]) for path in expected} == expected
    assert find_route(routes[:2], "/x") is None
