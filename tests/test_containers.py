"""Owns what can be known of Containerfile and compose.yml without an engine: shape, pins, privileges, names."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from gateway.settings_source import ENV_PREFIX, load, setting_names

ROOT: Final = Path(__file__).parents[1]
COMPOSE: Final[dict[str, Any]] = YAML(typ="safe").load((ROOT / "compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
CONTAINERFILE: Final = (ROOT / "Containerfile").read_text()
# Those that do something for the others and end.
ONE_SHOTS: Final = {
    other
    for service in SERVICES.values()
    for other, how in service.get("depends_on", {}).items()
    if how["condition"] == "service_completed_successfully"
}
LONG_RUNNING: Final = sorted(SERVICES.keys() - ONE_SHOTS)
# The newest PostgreSQL that pg_dump of each Debian can dump is of its own version.
DEBIAN_POSTGRES: Final = {"bookworm": 15, "trixie": 17}
# What the compose specification knows at these places, as far as we use it.
TOP: Final = {"name", "services", "volumes", "networks", "secrets", "configs"}
SERVICE: Final = {
    "build", "cap_add", "cap_drop", "command", "depends_on", "entrypoint", "env_file", "environment", "healthcheck", "image",
    "network_mode", "ports", "profiles", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user",
    "volumes",
}  # fmt: skip


def test_only_known_keys_are_used() -> None:
    assert set(COMPOSE) <= TOP
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE, name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_gains_no_privileges(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].partition("@")[0].rpartition(":")[2]
    assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag), f"{service['image']} is not pinned to a version"
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_that_goes_on_is_watched_and_is_not_root(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or ("build" in service and "HEALTHCHECK" in CONTAINERFILE)
    assert "cap_add" not in service
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    if "build" in service:
        assert f"USER {service['user']}\n" in CONTAINERFILE


@pytest.mark.parametrize("name", sorted(ONE_SHOTS))
def test_what_runs_once_as_root_can_do_nothing_else(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "no"
    assert service["network_mode"] == "none"
    assert service["read_only"]
    assert set(service["cap_add"]) <= {"CHOWN", "DAC_READ_SEARCH"}
    assert "env_file" not in service


def _named_volumes(service: dict[str, Any]) -> dict[str, str]:
    """Where each is mounted."""
    pairs = (volume.split(":")[:2] for volume in service.get("volumes", ()))
    return {name: target for name, target in pairs if not name.startswith((".", "/"))}


def test_every_volume_belongs_to_the_service_that_writes_it() -> None:
    prepare = SERVICES["prepare"]
    given = {
        path: owner for owner, path in re.findall(r"^give (\S+) (\S+)$", prepare["command"][0], re.MULTILINE)
    }
    owners = {name: given[target] for name, target in _named_volumes(prepare).items()}
    assert given.keys() == set(_named_volumes(prepare).values())
    assert owners.keys() == set(COMPOSE["volumes"])
    for name in LONG_RUNNING:
        service = SERVICES[name]
        mounted = _named_volumes(service)
        assert mounted
        assert service["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}
        for volume in mounted:
            if (name, volume) != ("registry", "database-socket"):  # there it only connects
                assert owners[volume] == service["user"], f"{name} cannot write {volume}"


def test_the_client_in_the_image_can_dump_the_database() -> None:
    final = CONTAINERFILE[CONTAINERFILE.rindex("FROM ") :]
    client = re.search(r"apt-get install .*\bpostgresql-client-(\d+)", final)
    server = re.search(r"postgres:(\d+)", SERVICES["database"]["image"])
    debian = re.match(r"FROM \S+-slim-([a-z]+)", final)
    assert client
    assert server
    assert debian
    assert int(client[1]) == DEBIAN_POSTGRES[debian[1]], "Debian has no other"
    assert int(server[1]) <= int(client[1])


def test_running_uploads_get_the_time_that_the_settings_promise() -> None:
    minutes = int(SERVICES["registry"]["stop_grace_period"].removesuffix("m"))
    assert minutes * 60 > load(environ={}).settings.server.drain_s


def test_every_named_volume_is_declared_and_used() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith((".", "/"))
    }
    assert used == set(COMPOSE["volumes"])


def test_what_a_service_waits_for_exists_and_tells_its_health() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if other in ONE_SHOTS:
                assert how["condition"] == "service_completed_successfully"
            else:
                assert how["condition"] == "service_healthy"
                assert "healthcheck" in SERVICES[other]


def test_every_setting_that_is_given_exists() -> None:
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}
    given |= set(re.findall(rf"\b{ENV_PREFIX}\w+__\w+", CONTAINERFILE))
    ours = {name for name in given if name.startswith(ENV_PREFIX)}
    known = {ENV_PREFIX + name.upper().replace(".", "__") for name in setting_names()}
    assert ours
    assert ours <= known


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", name), f"{name}={value}"


def test_the_image_runs_without_root_and_copies_only_what_exists() -> None:
    users = re.findall(r"^USER (\S+)", CONTAINERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "HEALTHCHECK" in CONTAINERFILE
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    allowed = {line[1:] for line in (ROOT / ".containerignore").read_text().split() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE):
        assert set(line.split()[:-1]) <= allowed


def test_both_stages_stand_on_the_same_pinned_python() -> None:
    bases = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)
    assert len(set(bases)) == 1
    assert re.search(r":3\.13\.\d+-", bases[0])
