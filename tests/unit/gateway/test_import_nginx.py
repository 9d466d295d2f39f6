"""Tests of the import: the incumbent's configuration as a whole, and each directive of the module alone."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.import_nginx import as_toml, import_nginx, read_nginx
from gateway.nginx_result import Imported
from gateway.settings_routes import Route
from gateway.upload.plan import make_plan
from tests.support.nginx_import import APP, MODULE
from tests.support.nginx_import import translated as _translate

FIXTURES = Path(__file__).parent / "nginx_fixtures"


def _upload(inner: str, *, server: str = "") -> tuple[Route, Imported]:
    made = _translate("server { " + server + " location /u { " + MODULE + inner + "} " + APP + "}")
    (route,) = made.routes
    return Route.model_validate(route), made


def test_the_incumbents_configuration_becomes_a_route_that_does_the_same() -> None:
    made = read_nginx(FIXTURES / "incumbent" / "nginx.conf")
    settings = tomllib.loads(as_toml(made, source="nginx.conf"))
    assert settings["server"] == {"http": "0.0.0.0:80"}
    assert settings["limits"] == {"body_idle_s": 120}
    upload, everything = (Route.model_validate(route) for route in settings["routes"])
    assert (upload.prefix, upload.action, upload.pass_to) == ("/upload", "upload", "/api/uploads/complete/")
    assert (str(upload.store), upload.store_levels, upload.store_access) == (
        "/var/www/images/_upload",
        (1,),
        0o666,
    )
    assert (upload.cleanup, upload.max_total_bytes, upload.max_file_bytes) == (((400, 599),), 10024 << 20, 0)
    assert (everything.prefix, everything.action, everything.max_body_bytes) == ("/", "forward", 10024 << 20)
    plan = make_plan(upload)
    assert plan.digests == {"md5"}
    passed = ["submit", "description", "SREGISTRY_EVENT", "collection", "name", "tag"]
    assert [name for name in (*passed, "csrfmiddlewaretoken", "file1.path") if plan.passes(name)] == passed


def test_what_the_incumbents_configuration_loses_is_named() -> None:
    notes = read_nginx(FIXTURES / "incumbent" / "nginx.conf").notes
    said = "\n".join(notes)
    for lost in (
        "uwsgi_pass uwsgi:3031",
        "/static",
        "/images",
        r"\.(php|aspx|asp|myadmin)$",
        "anybody may fetch",
        "add_header X-Clacks-Overhead",
    ):
        assert lost in said
    assert len(notes) == 6
    assert all("site.conf:" in note for note in notes)


def test_the_command_prints_toml_names_what_is_lost_and_says_so_by_its_status() -> None:
    result = CliRunner().invoke(import_nginx, [str(FIXTURES / "incumbent" / "nginx.conf")])
    assert result.exit_code == 1
    assert len(tomllib.loads(result.stdout)["routes"]) == 2
    assert result.stderr.count("not translated: ") == 6
    assert result.stdout.count("#  - ") == 6


def test_a_configuration_without_losses_is_status_0(tmp_path: Path) -> None:
    (tmp_path / "n.conf").write_text(
        "server { location /u { " + MODULE + " client_max_body_size 0; } " + APP + "}"
    )
    result = CliRunner().invoke(import_nginx, [str(tmp_path / "n.conf")])
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("text", [None, "server {", "include nosuch.conf; }"])
def test_a_file_that_cannot_be_understood_is_status_2(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "n.conf").write_text(text)
    result = CliRunner().invoke(import_nginx, [str(tmp_path / "n.conf")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("gateway: ")


DIRECTIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "named target": ("", {"upstream": "http://127.0.0.1:9", "pass_to": "", "pass_args": True}),
    "store levels": ("upload_store /t 1 2;", {}),
    "access": ("upload_store_access group:r;", {"store_access": 0o640}),
    "max file": ("upload_max_file_size 10m;", {"max_file_bytes": 10 << 20}),
    "no max file": ("upload_max_file_size 0;", {"max_file_bytes": 0}),
    "output": ("upload_max_output_body_len 1k;", {"max_output_bytes": 1024}),
    "output default": ("", {"max_output_bytes": 100 << 10}),
    "rate": ("upload_limit_rate 64k;", {"max_rate": 64 << 10}),
    "arrays": ("upload_tame_arrays on;", {"tame_arrays": True}),
    "no arrays": ("upload_tame_arrays off;", {"tame_arrays": False}),
    "cleanup": (
        "upload_cleanup 400 404 499 500-505;",
        {"cleanup": ((400, 400), (404, 404), (499, 499), (500, 505))},
    ),
    "body": ("client_max_body_size 2g;", {"max_total_bytes": 2 << 30}),
    "body default": ("", {"max_total_bytes": 1 << 20}),
    "small part header": ("upload_max_part_header_len 512;", {"max_part_header_bytes": 8 << 10}),
    "large part header": ("upload_max_part_header_len 64k;", {"max_part_header_bytes": 64 << 10}),
    "buffers": ("upload_buffer_size 1m; upload_merge_buffer_size 1m;", {}),
    "set": ("upload_set_form_field a_$upload_field_name x;", {"set_fields": {"a_$upload_field_name": "x"}}),
    "aggregate": (
        'upload_aggregate_form_field "$upload_field_name.sha" "$upload_file_sha256";',
        {"aggregate_fields": {"$upload_field_name.sha": "$upload_file_sha256"}},
    ),
}


@pytest.mark.parametrize(("inner", "expected"), DIRECTIVES.values(), ids=DIRECTIVES.keys())
def test_a_directive_of_the_module_has_its_setting(inner: str, expected: dict[str, Any]) -> None:
    route, made = _upload(inner)
    assert {name: getattr(route, name) for name in expected} == expected
    assert not made.notes


def test_directives_are_inherited_and_lists_replace_each_other() -> None:
    outer = 'upload_pass_form_field "^b$"; upload_cleanup 400; upload_max_file_size 5; upload_store /o 2;'
    route, _ = _upload("", server=outer)
    assert (route.pass_fields, route.max_file_bytes, route.cleanup) == (("^a$",), 5, ((400, 400),))
    assert (str(route.store), route.store_levels) == ("/s", ())


LOST = {
    "upload_resumable on;": "/uploads/",
    "upload_add_header X y;": "no header is added",
    "limit_except POST { deny all; }": "methods are not limited",
    "auth_request /auth;": "became auth_url",
    "if ($request_method = GET) { return 405; }": "conditions have no counterpart",
    "upload_set_form_field x $document_root;": "unknown variable",
    "upload_set_form_field x $upload_file_md5;": "aggregate_fields",
    "upload_set_form_field x 1; upload_set_form_field x 2;": "set twice",
    'upload_pass_form_field "(";': "not a regular expression",
    "upload_set_form_field $upload_field_name $upload_tmp_path;": "one of the same name",
}


@pytest.mark.parametrize(("inner", "sentence"), LOST.items())
def test_what_has_no_counterpart_is_named_with_its_line(inner: str, sentence: str) -> None:
    made = _translate("server {\n location /u {\n" + MODULE + inner + "\n} " + APP + "}")
    (note,) = made.notes
    assert sentence in note
    assert note.startswith(("n:2:", "n:3:"))


def test_upload_pass_is_followed_to_the_location_that_nginx_would_choose() -> None:
    locations = """
        location / { proxy_pass http://app; }
        location /api/ { proxy_pass http://unix:/run/api.sock:/v2/; }
        location ~ ^/api/special { proxy_pass http://127.0.0.1:3; }
        location = /exact { proxy_pass http://127.0.0.1:4; }
        location ^~ /api/special/not { proxy_pass http://127.0.0.1:5; }
    """
    targets = {
        "/done": ("http://10.0.0.1:80", "/done"),
        "/api/done": ("unix:/run/api.sock", "/v2/done"),
        "/api/special": ("http://127.0.0.1:3", "/api/special"),
        "/exact": ("http://127.0.0.1:4", "/exact"),
        "/api/special/not": ("http://127.0.0.1:5", "/api/special/not"),
    }
    for target, expected in targets.items():
        text = "http { upstream app { server 10.0.0.1:80; keepalive 8; } server {" + locations
        made = _translate(text + "location = /u { upload_store /s; upload_pass " + target + "; } } }")
        route = next(route for route in made.routes if route.get("path") == "/u")
        assert (route["upstream"], route["pass_to"]) == expected


@pytest.mark.parametrize("target", ["/nowhere", "@nowhere", "$where"])
def test_an_upload_pass_that_leads_nowhere_is_named(target: str) -> None:
    made = _translate("server { location /u { upload_store /s; upload_pass " + target + "; } }")
    assert "Set upstream" in made.notes[0]
    assert made.routes[0]["upstream"] == "http://127.0.0.1:8000"


def test_routes_are_in_nginxs_order_of_preference() -> None:
    made = _translate(
        "server { location / { proxy_pass http://a; } location /x/y { proxy_pass http://b; }"
        " location /x { proxy_pass http://c; } location =/x/y/z { proxy_pass http://d; } }"
    )
    assert [route.get("path") or route["prefix"] for route in made.routes] == ["/x/y/z", "/x/y", "/x", "/"]


def test_two_servers_that_say_the_same_make_one_set_of_routes() -> None:
    server = "server { listen %s; location / { proxy_pass http://a; } }"
    tls = "443 ssl; server_name r.example.org _; ssl_certificate /c.pem; ssl_certificate_key /k.pem"
    made = _translate(server % "80" + server % tls)
    assert len(made.routes) == 1
    assert not made.notes
    assert made.settings == {
        "server": {"http": "0.0.0.0:80", "https": "0.0.0.0:443", "server_names": ["r.example.org"]},
        "tls": {"mode": "files", "certificate": "/c.pem", "key": "/k.pem"},
    }


def test_two_servers_that_differ_are_named() -> None:
    made = _translate(
        "server { location / { proxy_pass http://a; } } server { location / { proxy_pass http://b; } }"
    )
    assert len(made.routes) == 1
    assert "second time" in made.notes[0]


@pytest.mark.parametrize(
    ("passed", "sentence"),
    [
        ("proxy_pass https://a;", "TLS to the backend"),
        ("proxy_pass http://$a;", "has variables"),
        ("proxy_pass http://two;", "has 2 servers"),
        ("proxy_pass http://a/other/;", "stays as it is"),
        ("fastcgi_pass unix:/f;", "FastCGI"),
        ("return 301 /b;", "answers by itself"),
    ],
)
def test_a_backend_that_cannot_be_reached_the_same_way_is_named(passed: str, sentence: str) -> None:
    made = _translate("upstream two { server a; server b; } server { location /p/ { " + passed + " } }")
    assert any(sentence in note for note in made.notes)


LISTENERS = {
    "80": {"http": "0.0.0.0:80"},
    "*:80": {"http": "0.0.0.0:80"},
    "10.0.0.1:80": {"http": "10.0.0.1:80"},
    "[::]:80": {"http": "[::]:80"},
    "[::]:80; listen 80": {"http": "0.0.0.0:80"},
    "443 ssl http2": {"https": "0.0.0.0:443"},
}


@pytest.mark.parametrize(("listen", "expected"), LISTENERS.items())
def test_listeners_become_addresses(listen: str, expected: dict[str, str]) -> None:
    made = _translate("server { listen " + listen + "; location / { proxy_pass http://a; } }")
    assert made.settings["server"] == expected
    assert not made.notes


@pytest.mark.parametrize(
    ("directive", "sentence"),
    [
        ("listen unix:/run/n.sock;", "not ADDR:PORT"),
        ("listen 80; listen 8080;", "one http listener is possible"),
        ("server_name ~^w+$ *.example.org;", "is a pattern"),
        ("location ~ ^/x { proxy_pass http://b; }", "a path or a prefix"),
    ],
)
def test_what_a_server_cannot_say_here_is_named(directive: str, sentence: str) -> None:
    made = _translate("server { " + directive + " location / { proxy_pass http://a; } }")
    assert any(sentence in note for note in made.notes)


@pytest.mark.parametrize(
    ("inner", "sentence"),
    [
        ("upload_set_form_field x;", "needs a name and a value"),
        ("auth_request $where;", "has variables"),
        ("auth_request off;", ""),
    ],
)
def test_odd_directives_are_named_or_mean_nothing(inner: str, sentence: str) -> None:
    _, made = _upload(inner)
    assert bool(made.notes) == bool(sentence)
    assert sentence in "".join(made.notes)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("= /auth { internal; proxy_pass http://10.0.0.9:81; }", "http://10.0.0.9:81/auth"),
        ("= /auth { internal; proxy_pass http://10.0.0.9:81/who; }", "http://10.0.0.9:81/who"),
        ("/au { internal; proxy_pass http://10.0.0.9:81/who/; }", "http://10.0.0.9:81/who/th"),
        ("= /auth { internal; proxy_pass http://127.0.0.1:9; }", "/auth"),
    ],
)
def test_who_answers_an_auth_request_is_asked_and_not_made_a_route(location: str, url: str) -> None:
    made = _translate(
        "server { location /u {"
        + MODULE
        + "auth_request /auth; } location @app { proxy_pass http://127.0.0.1:9; }"
        " location " + location + " }"
    )
    route, hidden = sorted(made.routes, key=lambda route: route["action"], reverse=True)
    assert (route["upstream"], route["auth_url"]) == ("http://127.0.0.1:9", url)
    assert hidden["action"] == "hide"
    assert made.notes == []


def test_an_internal_location_that_only_nginx_redirects_to_is_named() -> None:
    """A backend that answers with X-Accel-Redirect would find nobody who follows it."""
    site = "server { location /u {" + MODULE + "auth_request /auth; } " + APP
    asked = "location = /auth { internal; proxy_pass http://127.0.0.1:9; }"
    made = _translate(site + asked + " location /files/ { internal; alias /srv/; } }")
    assert ["/files/" in note and "internal" in note for note in made.notes] == [True]


def test_an_internal_location_where_uploads_end_is_no_news() -> None:
    inner = 'upload_pass /done; upload_store /s; upload_pass_form_field "^a$";'
    made = _translate(
        "server { location /u {" + inner + "} location = /done { internal; proxy_pass http://127.0.0.1:9; } }"
    )
    assert made.notes == []
    upload, hidden = sorted(made.routes, key=lambda route: route["action"], reverse=True)
    assert (upload["prefix"], upload["pass_to"]) == ("/u", "/done")
    assert hidden == {"path": "/done", "action": "hide"}


def test_a_resumable_upload_is_named_where_it_is_inherited_from() -> None:
    _, made = _upload("", server="upload_resumable on;")
    assert "/uploads/" in made.notes[0]


def test_a_pattern_that_python_cannot_read_matches_nothing() -> None:
    made = _translate(
        "server { location ~ ( { proxy_pass http://b; } location / { proxy_pass http://a; }"
        " location = /u { upload_store /s; upload_pass /x; } }"
    )
    assert made.routes[0]["upstream"] == "http://a"


def test_strange_values_make_good_toml() -> None:
    odd = 'é"\\\\\x7f\udce9\u2028'
    made = Imported(
        routes=[{"prefix": "/", "pass_fields": [odd], "set_fields": {odd: odd, "$x.y": "z"}}], notes=["a\nb"]
    )
    read = tomllib.loads(as_toml(made, source="a\nb"))
    shown = odd.replace("\udce9", "\ufffd")
    assert read["routes"] == [
        {"prefix": "/", "pass_fields": [shown], "set_fields": {shown: shown, "$x.y": "z"}}
    ]


def test_a_configuration_without_backends_says_so() -> None:
    assert _translate("events { }").notes == ["no location with upload_pass or proxy_pass was found"]
