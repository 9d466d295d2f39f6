"""Tests of the promise that the import loses nothing silently, opens nothing silently, and prints what loads."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.settings_routes import Route, find_route
from tests.support.nginx_import import APP, MODULE, translated

FIXTURES = Path(__file__).parent / "nginx_fixtures"
HOUSE = "proxy_pass http://127.0.0.1:9;"
OPEN = "whom nginx refuses is let in here"


def _site(*, http: str = "", server: str = "", location: str = "") -> str:
    """A configuration with something in line 2 (http), 4 (server) or 6 (location)."""
    lines = ("http {", http, "server {", server, "location / {", location, HOUSE, "} } }")
    return "\n".join(lines)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def _action(routes: list[dict[str, Any]], path: str) -> str:
    found = find_route([Route.model_validate(route) for route in routes], path)
    return found.action if found else ""


# Files that are not there


def test_a_file_that_is_not_there_is_named_and_the_rest_is_translated() -> None:
    file = FIXTURES / "bare" / "nginx.conf"
    result = _run("import-nginx", str(file))
    assert result.exit_code == 1
    for line, name in ((6, str(file.parent / "mime.types")), (11, "/nosuch/etc/nginx/uwsgi_params.par")):
        said = f"{file}:{line}: could not read '{name}' (No such file or directory)"
        assert f"{said}; what stands in it is not translated" in result.stderr
    assert "conf.d" not in result.stderr  # a pattern that finds nothing is none of nginx's mistakes either
    routes = tomllib.loads(result.stdout)["routes"]
    assert [(route["prefix"], route["action"]) for route in routes] == [
        ("/upload", "upload"),
        ("/", "forward"),
    ]


def test_what_one_file_of_a_pattern_hides_the_others_do_not(tmp_path: Path) -> None:
    (tmp_path / "n.conf").write_text("include sites/*.conf;")
    (tmp_path / "sites" / "b.conf").mkdir(parents=True)  # cannot be read as a file
    for name in ("a", "c"):
        site = "server { location /%s { proxy_pass http://127.0.0.1:9; client_max_body_size 0; } }"
        (tmp_path / "sites" / f"{name}.conf").write_text(site % name)
    result = _run("import-nginx", str(tmp_path / "n.conf"))
    assert [route["prefix"] for route in tomllib.loads(result.stdout)["routes"]] == ["/a", "/c"]
    (note,) = [line for line in result.stderr.splitlines() if "could not read" in line]
    assert "b.conf" in note


# Directives that nobody translates

NAMED = {
    'auth_basic "staff";': OPEN,
    "auth_basic_user_file /f;": OPEN,
    "allow 10.0.0.0/8;": OPEN,
    "deny 10.0.0.1;": OPEN,
    "satisfy any;": OPEN,
    "add_header X y;": "no header is added",
    "error_page 404 /404.html;": "answers are not replaced",
    "limit_req zone=z;": "requests are not rated",
    "limit_conn z 2;": "connections of one client",
    "limit_rate 1k;": "not slowed down",
    "proxy_set_header X-Secret y;": "no header is set",
    "proxy_set_header Host backend;": "no header is set",
    "proxy_hide_header X;": "no counterpart",
    "proxy_cache z;": "no counterpart",
    "proxy_read_timeout 900;": "core.head_s",
    "uwsgi_param REMOTE_USER $remote_user;": "the backend is not told",
    "auth_request_set $u $upstream_http_x;": "no counterpart",
    "set_real_ip_from 10.0.0.0/8;": "server.trusted_proxies",
    "secure_link $arg_md5;": OPEN,
    "nobody_thought_of this;": "no counterpart",
    "upload_add_header X y;": "no header is added",
    "upload_resumable on;": "/uploads/",
}
ONLY_WITHIN = {
    "return 403;": "makes no such answer",
    "rewrite ^/a /b;": "paths are not rewritten",
    "if ($bad) { return 403; }": OPEN,
    "if ($bad) { set $x 1; }": "conditions have no counterpart",
    "try_files $uri /index.html;": "files are not served",
    "track_uploads z 1s;": "/-/uploads",
}
ONLY_HTTP = {
    "limit_req_zone $a zone=z:1m rate=1r/s;": "requests are not rated",
    "limit_conn_zone $a zone=z:1m;": "connections of one client",
    "upload_progress z 1m;": "/-/uploads",
    "proxy_cache_path /c keys_zone=z:1m;": "no counterpart",
    "ssl_protocols TLSv1.3;": "tls.profile",
    "ssl_ciphers HIGH;": "tls.profile",
    "ssl_verify_client on;": OPEN,
    "lua_shared_dict d 1m;": "no counterpart",
}


@pytest.mark.parametrize(
    ("level", "line", "directive", "sentence"),
    [("http", 2, *item) for item in (*NAMED.items(), *ONLY_HTTP.items())]
    + [("server", 4, *item) for item in (*NAMED.items(), *ONLY_WITHIN.items())]
    + [("location", 6, *item) for item in NAMED.items()],
)
def test_a_directive_without_counterpart_is_named_on_every_level(
    level: str, line: int, directive: str, sentence: str
) -> None:
    (note,) = translated(_site(**{level: directive})).notes
    assert note.startswith(f"n:{line}: '{directive.partition(' ')[0].rstrip(';')}")
    assert sentence in note


HARMLESS = (
    "access_log off; error_log /e warn; sendfile on; tcp_nopush on; keepalive_timeout 65; gzip on; gzip_types a/b;"
    " default_type text/plain; charset utf-8; server_tokens off; client_header_timeout 5; send_timeout 5;"
    " client_body_buffer_size 1m; proxy_buffering off; proxy_http_version 1.1; fastcgi_buffers 8 16k;"
    " upload_buffer_size 1m; auth_basic off; allow all; root /var/www; index a.html; proxy_redirect off;"
    " proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    " uwsgi_param QUERY_STRING $query_string; ssl_session_cache shared:a:1m; types { a/b c; }"
)


@pytest.mark.parametrize("level", ["http", "server", "location"])
def test_what_changes_nothing_for_anybody_is_not_named(level: str) -> None:
    assert translated(_site(**{level: HARMLESS})).notes == []


def test_a_file_of_servers_is_read_as_if_it_stood_in_http() -> None:
    made = translated("client_max_body_size 2k; deny 10.0.0.1; " + "server { location / { " + HOUSE + " } }")
    assert made.routes[0]["max_body_bytes"] == 2048
    (note,) = made.notes
    assert OPEN in note


def test_what_stands_in_a_location_that_becomes_no_route_is_named_too() -> None:
    made = translated("server { location / { " + HOUSE + " } location /s { alias /s; deny 10.0.0.1; } }")
    assert ["serves files (alias)" in made.notes[0], OPEN in made.notes[1]] == [True, True]
    made = translated("server { location / { " + HOUSE + " } location /progress { report_uploads z; } }")
    assert ["has no backend" in made.notes[0], "/-/uploads" in made.notes[1]] == [True, True]


def test_a_question_of_a_server_is_asked_on_each_of_its_routes() -> None:
    made = translated(_site(server="auth_request /auth; location = /auth { internal; " + HOUSE + " }"))
    assert made.notes == []
    assert {route.get("auth_url") for route in made.routes if route["action"] != "hide"} == {"/auth"}


def test_a_question_that_is_asked_nowhere_here_is_named() -> None:
    app = "location @app { auth_request /auth; proxy_pass http://127.0.0.1:9; }"
    made = translated("server { location /u { " + MODULE + " } " + app + " }")
    (note,) = made.notes
    assert "auth_request /auth" in note
    assert OPEN in note


SERVERS = {
    "stream { server { listen 1; } }": "only HTTP",
    "server { listen 80 proxy_protocol; }": "server.proxy_protocol",
    "server { listen 443 quic; }": "HTTP/3",
    "server { ssl_certificate /a; ssl_certificate_key /b; } server { ssl_certificate /c; ssl_certificate_key /b; }": (
        "one certificate is possible"
    ),
    "server { ssl_certificate $a; ssl_certificate_key /b; }": "has variables",
    "server { server_name a.org; } server { server_name b.org; }": "serve every host name",
    "server { listen 80; return 301 https://elsewhere.org$request_uri; } server { listen 443 ssl; }": "no such answer",
    "server { listen 80; return 301 https://$host$request_uri; }": "no such answer",
}


@pytest.mark.parametrize(("servers", "sentence"), SERVERS.items())
def test_what_servers_lose_is_named(servers: str, sentence: str) -> None:
    notes = translated(servers + " server { location / { " + HOUSE + " } }").notes
    assert len([note for note in notes if sentence in note]) == 1


@pytest.mark.parametrize("inner", ["%s", "location / { %s }"])
def test_a_redirect_to_https_is_what_the_gateway_does(inner: str) -> None:
    plain = "server { listen 80; " + inner % "return 301 https://$host$request_uri;" + " }"
    made = translated(plain + "server { listen 443 ssl; location / { " + HOUSE + " } }")
    assert made.notes == []
    assert [route["action"] for route in made.routes] == ["forward"]


# What is hidden


def test_where_uploads_end_is_hidden_although_everything_else_is_forwarded() -> None:
    made = translated(
        "server { location / { " + HOUSE + " } location /u { upload_pass /done; upload_store /s; }"
        " location = /done { internal; " + HOUSE + " } }"
    )
    assert made.notes == []
    seen = {path: _action(made.routes, path) for path in ("/u", "/done", "/%64one", "//done", "/x")}
    assert seen == {"/u": "upload", "/done": "hide", "/%64one": "hide", "//done": "hide", "/x": "forward"}


@pytest.mark.parametrize("internal", ["/do", "~ ^/do", "^~ /done"])
def test_it_is_hidden_whatever_kind_of_location_it_is_in(internal: str) -> None:
    """nginx compares characters and patterns, a route the steps of a path."""
    made = translated(
        "server { location / { " + HOUSE + " } location /u { upload_pass /done; upload_store /s; }"
        " location " + internal + " { internal; " + HOUSE + " } }"
    )
    assert _action(made.routes, "/done") == "hide"


CLOSED = ("deny all;", "return 404;", "return 403;", "return 444;", "deny all; " + HOUSE, "internal;")
NOT_CLOSED = (
    "allow 10.0.0.1; deny all;",
    "satisfy any; deny all;",
    "error_page 404 = @app; return 404;",
    "if ($ok) { rewrite ^ /x; } return 404;",
    "return 200; return 404;",
)


@pytest.mark.parametrize("inner", CLOSED)
def test_a_location_that_refuses_everybody_is_hidden(inner: str) -> None:
    made = translated("server { location / { " + HOUSE + " } location /x { " + inner + " } }")
    assert made.routes[0] == {"prefix": "/x", "action": "hide"}


@pytest.mark.parametrize("inner", NOT_CLOSED)
def test_a_location_that_lets_somebody_in_is_named_and_not_hidden(inner: str) -> None:
    made = translated("server { location / { " + HOUSE + " } location /x { " + inner + " } }")
    assert [route["action"] for route in made.routes] == ["forward"]
    assert made.notes


def test_a_pattern_that_nobody_may_see_is_said_to_be_open() -> None:
    (note,) = translated(_site(server=r"location ~ /\.ht { deny all; }")).notes
    assert OPEN in note


def test_what_one_server_hides_no_other_opens() -> None:
    first = "server { location / { " + HOUSE + " } location /x { " + HOUSE + " } }"
    made = translated(
        first + " server { location /x { internal; " + HOUSE + " } location /y/ { internal; } }"
    )
    assert {path: _action(made.routes, path) for path in ("/x/1", "/y/1", "/z")} == {
        "/x/1": "hide",
        "/y/1": "hide",
        "/z": "forward",
    }
    assert any("this one is kept" in note for note in made.notes)


def test_a_default_server_that_refuses_everything_hides_no_other() -> None:
    refuse, own = "server { location / { return 444; } }", "server { location / { " + HOUSE + " } }"
    for both in (refuse + own, own + refuse):
        made = translated(both)
        assert [route["action"] for route in made.routes] == ["forward"]
        assert len(made.notes) == 1


# What is printed loads


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("*/nginx.conf")), ids=lambda file: file.parent.name)
def test_what_is_printed_of_a_fixture_loads(file: Path, tmp_path: Path) -> None:
    printed = _run("import-nginx", str(file))
    assert printed.exit_code == 1
    (tmp_path / "gateway.toml").write_text(printed.stdout)
    loaded = _run("settings", "--config", str(tmp_path / "gateway.toml"))
    assert (loaded.exit_code, loaded.stderr) == (0, "")


def test_the_guarded_fixture_loses_nothing_silently() -> None:
    printed = _run("import-nginx", str(FIXTURES / "guarded" / "nginx.conf"))
    for line in (5, 6, 19, 20, 21, 22, 23, 30, 32, 33, 35, 37, 40, 41):
        assert f"nginx.conf:{line}: " in printed.stderr, line
    routes = tomllib.loads(printed.stdout)["routes"]
    assert {path: _action(routes, path) for path in ("/done", "/secret/x", "/old%20files/%C3%A9", "/")} == {
        "/done": "hide",
        "/secret/x": "hide",
        "/old%20files/%C3%A9": "hide",
        "/": "forward",
    }
    upload = next(route for route in routes if route["action"] == "upload")
    assert upload["set_fields"] == {"$upload_field_name.path": "$upload_tmp_path"}
    assert "user" not in upload["set_fields"]
    assert "$" not in upload["store"]


LEFT_OUT = {
    "upload_store /srv/$arg_user 1;": "has variables",
    "upload_set_form_field u $remote_user;": "unknown variable $remote_user",
    "upload_set_form_field $cookie_a x;": "unknown variable $cookie_a",
    'upload_aggregate_form_field "a" "$5";': "unknown variable",
    'upload_set_form_field a "5 $";': "begins no variable",
    "upload_store_access user:x;": "user:rw group:r",
    "upload_cleanup 600;": "within 200-599",
    "upload_store /s 1 2 1 1;": "at most three",
}


@pytest.mark.parametrize(("inner", "sentence"), LEFT_OUT.items())
def test_what_the_settings_would_refuse_is_named_and_left_out(inner: str, sentence: str) -> None:
    module = MODULE.replace("upload_store /s;", "") if "upload_store /" in inner else MODULE
    made = translated("server { location /u { " + module + inner + "} " + APP + "}")
    assert any(sentence in note for note in made.notes)
    (route,) = made.routes
    assert route["action"] == "upload"


@pytest.mark.parametrize("inner", ['proxy_pass "http://h ost";', "auth_request /a\u007f; " + HOUSE])
def test_a_route_that_cannot_be_written_is_not_left_to_another(inner: str) -> None:
    made = translated("server { location /x { " + inner + " } location / { " + HOUSE + " } }")
    assert any("hidden until that is put right" in note or OPEN in note for note in made.notes)
    assert made.routes[0]["prefix"] == "/x"


@pytest.mark.parametrize("closes", ["internal;", "deny all;", "allow none; internal;"])
def test_what_stands_within_a_closed_location_is_closed_too(closes: str) -> None:
    inner = "location /a/b { location /a/b/c { proxy_pass http://127.0.0.1:9; } }"
    opened = "location /a/d { allow 10.0.0.0/8; proxy_pass http://127.0.0.1:9; }" if "deny" in closes else ""
    made = translated(f"server {{ location / {{ {HOUSE} }} location /a {{ {closes} {inner} {opened} }} }}")
    assert _action(made.routes, "/a/b/c") == "hide"
    assert _action(made.routes, "/x") == "forward"
    if opened:
        assert _action(made.routes, "/a/d") == "forward"
        assert any(OPEN in note for note in made.notes)


@pytest.mark.parametrize(
    ("page", "action"),
    [("500 502 503 504 /50x.html", "hide"), ("403 =200 /other", "forward"), ("404 403 @other", "forward")],
)
def test_only_a_page_for_the_refusal_opens_what_is_refused(page: str, action: str) -> None:
    made = translated(f"server {{ error_page {page}; location /a {{ deny all; {HOUSE} }} }}")
    assert _action(made.routes, "/a") == action
