"""Owns that what is printed about settings is true, and that conf/gateway.toml is what the program prints."""

import tomllib
from pathlib import Path

from gateway.settings_print import EXAMPLE, as_toml, effective, template
from gateway.settings_routes import Route
from gateway.settings_source import load, setting_names

CONF = Path(__file__).parents[3] / "conf" / "gateway.toml"


def test_the_template_in_conf_is_the_one_that_is_printed() -> None:
    assert CONF.read_text() == template(), "run: gateway settings --template > conf/gateway.toml"


def test_the_template_names_every_setting_but_secrets() -> None:
    lines = template().splitlines()
    for name in setting_names():
        leaf = name.rpartition(".")[2]
        is_there = any(line.startswith(f"#{leaf} =") for line in lines)
        assert is_there or leaf in {
            "routes",
            "access_key",
            "secret_key",
            "previous_access_key",
            "previous_secret_key",
        }


def test_the_template_as_it_is_changes_nothing_and_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    assert load(file=CONF, environ={}).settings == load(environ={}, file=_empty(tmp_path)).settings
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") and EXAMPLE not in line else line
        for line in template().partition("#[[routes]]")[0].splitlines()
    )
    file = tmp_path / "all.toml"
    file.write_text(uncommented)
    assert tomllib.loads(uncommented)["server"]["workers"] == 1
    assert load(file=file, environ={}).settings == load(file=_empty(tmp_path), environ={}).settings


def test_a_route_of_the_template_is_a_route() -> None:
    routes = template().partition("#[[routes]]")[2].splitlines()
    values = tomllib.loads(
        "\n".join(line[1:] for line in routes if line.startswith("#") and line[1:2] != " ")
    )
    assert Route.model_validate(
        values | {"path": "/x", "action": "upload", "upstream": "http://127.0.0.1:1"}
    ).fsync


def _empty(folder: Path) -> Path:
    file = folder / "empty.toml"
    file.touch()
    return file


def test_secrets_are_masked_and_origins_told(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[server]\nworkers = 2\n")
    loaded = load(file=file, environ={"MINIO_ROOT_PASSWORD": "hunter2"}, flags={"server.http": "127.0.0.1:1"})
    rows = {name: (value, origin) for name, value, origin in effective(loaded)}
    assert rows["server.workers"] == (2, str(file))
    assert rows["storage.s3.secret_key"] == ("********", "environment MINIO_ROOT_PASSWORD")
    assert rows["server.http"] == ("127.0.0.1:1", "command line")
    assert rows["log.level"] == ("info", "default")
    assert "hunter2" not in repr(rows)


def test_values_are_written_as_toml_reads_them() -> None:
    for value in (True, 5, 16_777_216, 0.5, 'a"b', ("x", "y"), ()):
        read = tomllib.loads(f"v = {as_toml(value)}")["v"]
        assert (tuple(read) if isinstance(read, list) else read) == value
