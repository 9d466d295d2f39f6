"""Owns the proof that what compose.yml prepares is enough: its script and a store, as the users that it names.

There is no engine here. Folders stand for the volumes, name spaces for the containers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from tests.support.seaweed import WEED

ROOT: Final = Path(__file__).parents[2]
SERVICES: Final[dict[str, dict[str, Any]]] = YAML(typ="safe").load((ROOT / "compose.yml").read_text())[
    "services"
]
GENEROUS_S: Final = 60.0

# In a network of its own, so that the ports are those of compose.yml: weed as its user, one file into it.
STORE: Final = """
import http.client, os, re, subprocess, sys, time
weed, command, user, group = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
# Wherever this tree lies: the user need not reach it.
subprocess.run(["mount", "--bind", weed, os.environ["BINARY"]], check=True)
who = ["--reuid", user, "--regid", group, "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
store = subprocess.Popen(["setpriv", *who, "/bin/sh", "-ec", command], cwd="/")

def ask(port, method, path, body=None):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as exc:
        return 0, str(exc)

while ask(8333, "GET", "/healthz")[0] != 200 or ask(8888, "PUT", "/probe/ready", b"x" * 4096)[0] != 201:
    assert store.poll() is None, "it has ended"
    time.sleep(0.1)
assert ask(8333, "GET", "/")[0] == 403, "S3 does not ask for keys"
# More than its default of 8 volumes, each of 1 GiB.
most = max(int(found) for found in re.findall(r'"Max": ?(\\d+)', ask(9333, "GET", "/dir/status")[1]))
free = os.statvfs(os.environ["OBJECTS"])
print(most, free.f_bavail * free.f_frsize >> 30)
"""


def _targets(service: dict[str, Any]) -> dict[str, str]:
    return dict(volume.split(":")[:2] for volume in service["volumes"])


def _owner(path: Path) -> str:
    status = path.lstat()
    return f"{status.st_uid}:{status.st_gid}"


@pytest.fixture
def volumes() -> Iterator[Path]:
    """The folder of the volumes, which other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="gw-volumes-"))
    folder.chmod(0o755)
    for name in _targets(SERVICES["prepare"]):
        (folder / name).mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def prepare(volumes: Path) -> None:
    """The one-shot of compose.yml as it is there: root, but with none of root's rights that it is not given."""
    service = SERVICES["prepare"]
    (script,) = service["command"]
    for name, target in _targets(service).items():
        script = script.replace(f" {target}\n", f" {volumes / name}\n")
    assert str(volumes) in script
    rights = ",".join(["-all", *(f"+{right.lower()}" for right in service["cap_add"])])
    subprocess.run(
        [
            "setpriv",
            f"--bounding-set={rights}",
            "--no-new-privs",
            *service["entrypoint"],
            script.replace("$$", "$"),
        ],
        check=True,
        timeout=GENEROUS_S,
    )


def _writes(service: dict[str, Any], folder: Path) -> bool:
    user, group = service["user"].split(":")
    command = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "touch", str(folder / "probe")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"prepare"}))
def test_each_service_can_write_its_new_volumes(volumes: Path, name: str) -> None:
    own = [volume for volume in _targets(SERVICES[name]) if (name, volume) != ("registry", "database-socket")]
    assert not any(_writes(SERVICES[name], volumes / volume) for volume in own)
    prepare(volumes)
    assert all(_writes(SERVICES[name], volumes / volume) for volume in own)


def test_what_root_or_others_left_in_a_volume_changes_hands_once(volumes: Path) -> None:
    inner = volumes / "objects" / "bucket"
    inner.mkdir(mode=0o700)
    (inner / "1.dat").write_bytes(b"an image")
    for path in (inner, inner / "1.dat"):
        os.chown(path, 4711, 4711)
    (volumes / "objects" / "link").symlink_to("/etc/hostname")
    before = _owner(Path("/etc/hostname"))
    prepare(volumes)
    left = {path: _owner(path) for path in (volumes / "objects").rglob("*")}
    assert len(left) == 3
    assert set(left.values()) == {"10001:10001"}
    assert _owner(Path("/etc/hostname")) == before
    # A volume that is right is not gone through again: it may have millions of files.
    os.chown(inner / "1.dat", 4711, 4711)
    prepare(volumes)
    assert _owner(inner / "1.dat") == "4711:4711"


def test_seaweedfs_stores_without_root_and_fills_the_disk(volumes: Path) -> None:
    prepare(volumes)
    service, objects = SERVICES["seaweedfs"], volumes / "objects"
    (command,) = service["command"]
    binary = volumes / "weed"
    binary.touch(mode=0o755)
    for old, new in (
        ("$$", "$"),
        ("/objects", str(objects)),
        ("-ip=seaweedfs", "-ip=127.0.0.1"),
        ("exec weed", f"exec {binary}"),
    ):
        assert old in command
        command = command.replace(old, new)
    done = subprocess.run(
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"),
            *(sys.executable, "-c", STORE, str(WEED), command, *service["user"].split(":")),
        ],
        env={
            "PATH": os.environ["PATH"],
            "BINARY": str(binary),
            "OBJECTS": str(objects),
            "MINIO_ROOT_USER": "somekey",
            "MINIO_ROOT_PASSWORD": "somesecret",
        },
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    most, free_gib = map(int, done.stdout.split())
    assert most > 8 or most >= free_gib - 2
    assert {_owner(path) for path in objects.rglob("*")} == {"10001:10001"}
    assert list(objects.rglob("*.dat"))
