"""Owns where settings come from: lists in the environment, and folders that are none."""

from pathlib import Path
from typing import Final

import pytest

from gateway.errors import SettingsError
from gateway.settings_print import effective
from gateway.settings_source import load

PROXIES: Final = "GATEWAY_SERVER__TRUSTED_PROXIES"
ROUTE: Final = '{"path": "/up", "action": "upload", "upstream": "http://127.0.0.1:1", "store": "/s"}'


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    return [f"{problem.where}: {problem.what}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/8,fd00::/8",
        "10.0.0.0/8 fd00::/8",
        '["10.0.0.0/8", "fd00::/8"]',
        ' [ "10.0.0.0/8","fd00::/8" ]\n',
    ],
)
def test_a_list_in_the_environment_has_commas_or_is_json(text: str) -> None:
    settings = load(environ={PROXIES: text}).settings
    assert [str(network) for network in settings.server.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize("text", ["", "[]", " [ ] "])
def test_an_empty_list_is_one(text: str) -> None:
    assert load(environ={PROXIES: text}).settings.server.trusted_proxies == ()


@pytest.mark.parametrize(
    "text", ["[::1]:1,[2001:db8::7]:443", '["[::1]:1", "[2001:db8::7]:443"]', "[::1]:1 [2001:db8::7]:443"]
)
def test_the_bracket_of_an_address_begins_no_list(text: str) -> None:
    listeners = load(environ={"GATEWAY_SERVER__MORE_HTTPS": text}).settings.server.more_https
    assert list(listeners) == ["[::1]:1", "[2001:db8::7]:443"]


def test_a_json_list_that_is_none_is_told() -> None:
    (told,) = problems(**{PROXIES: '["10.0.0.0/8",]'})
    assert told.startswith(f"{PROXIES}: begins like a JSON list and is none: ")


def test_routes_may_come_as_json_and_their_mistakes_are_told() -> None:
    (route,) = load(environ={"GATEWAY_ROUTES": f"[{ROUTE}]"}).settings.routes
    assert route.store == Path("/s")
    (told,) = problems(GATEWAY_ROUTES=f"[{ROUTE.replace('"store"', '"stroe"')}]")[:1]
    assert "stroe" in told
    assert "store" in told
    assert any("routes" in told for told in problems(GATEWAY_ROUTES="/up"))


@pytest.mark.parametrize("url", ["s3://bucket/in/here", "S3://bucket", "https://host/x"])
def test_the_store_of_a_route_is_no_url(url: str) -> None:
    text = ROUTE.replace('"/s"', f'"{url}"')
    assert any(
        "is a URL and no folder; for S3 set store_s3" in told for told in problems(GATEWAY_ROUTES=f"[{text}]")
    )


def test_a_secret_file_that_is_no_text_is_told_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xff\xfesecret")
    assert problems(GATEWAY_STORAGE__S3__ACCESS_KEY_FILE=str(file)) == [
        f"storage.s3.access_key_file: {file}: is no text"
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MINIO_SERVER", "http://key:hunter2@minio:9000"),
        ("GATEWAY_ROUTES", '[{"path": "/x", "action": "forward", "upstream": "http://u:hunter2@h"}]'),
    ],
)
def test_no_complaint_shows_the_password_of_a_url(variable: str, text: str) -> None:
    told = problems(**{variable: text})
    assert told
    assert not any("hunter2" in problem for problem in told)


def test_no_password_of_a_database_is_printed() -> None:
    url = "postgresql+psycopg://registry:hunter2@db:5432/registry"
    loaded = load(environ={"GATEWAY_REGISTRY__DATABASE_URL": url})
    printed = {name: value for name, value, _ in effective(loaded)}
    assert printed["registry.database_url"] == "postgresql+psycopg://registry:***@db:5432/registry"
