"""Owns what can be known of Containerfile and compose.yml without an engine: shape, pins, privileges, names."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from gateway.settings_source import ENV_PREFIX, setting_names

ROOT: Final = Path(__file__).parents[1]
COMPOSE: Final[dict[str, Any]] = YAML(typ="safe").load((ROOT / "compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
CONTAINERFILE: Final = (ROOT / "Containerfile").read_text()
# What the compose specification knows at these places, as far as we use it.
TOP: Final = {"name", "services", "volumes", "networks", "secrets", "configs"}
SERVICE: Final = {
    "build", "cap_drop", "command", "depends_on", "entrypoint", "env_file", "environment", "healthcheck", "image",
    "ports", "profiles", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user",
    "volumes",
}  # fmt: skip


def test_only_known_keys_are_used() -> None:
    assert set(COMPOSE) <= TOP
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE, name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_gains_no_privileges(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag), f"{service['image']} is not pinned to a version"
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or "HEALTHCHECK" in CONTAINERFILE


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
