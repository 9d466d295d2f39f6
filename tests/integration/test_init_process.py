"""Owns process 1 of a container: it outlives every gateway process, passes signals on, and ends with the last one.

Each test has a PID name space of its own, as a container has. A kernel that forbids that fails the tests.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import processes
from tests.support.open_upload import OpenUpload
from tests.support.product import Product, running_product

GENEROUS_S: Final = 60.0
MIB: Final = 1 << 20
NAME_SPACE: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
# What the small programs have in common. Each begins as process 1.
COMMON: Final = """
import os, signal, subprocess, sys, time
from pathlib import Path
from gateway.init_process import stay_as_first, tell_init
assert os.getpid() == 1
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # not as the tests' own shell has them: nohup and & have them ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
stay_as_first()
assert os.getpid() != 1

def successor(code):
    "Starts a process that says it serves, then does as told, like a handover does; its first line has come."
    told = "import os, sys, time; from gateway.init_process import tell_init; tell_init(os.environ)"
    command = [sys.executable, "-c", told + "; print(flush=True); " + code]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    started.stdout.readline()
    started.returncode = 0  # as in a handover: whose child it is by then waits for it
    return started.pid

def wait_zombie(pid):
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
"""


def run_as_first(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program that is process 1 of a name space of its own."""
    done = subprocess.run(
        [*NAME_SPACE, sys.executable, "-c", COMMON + code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(autouse=True, scope="module")
def _name_spaces_may_be_made() -> None:
    made = subprocess.run([*NAME_SPACE, "true"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"these tests need a PID name space (root, or CAP_SYS_ADMIN): {made.stderr}"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
        # Who has no handler is ended by what is passed on to it.
        ("os.kill(1, signal.SIGTERM); time.sleep(60)", 128 + 15),
        ("os.kill(1, signal.SIGINT); time.sleep(60)", 1),
    ],
    ids=["exit", "killed", "SIGTERM", "SIGINT"],
)
def test_it_ends_as_the_gateway_ends(code: str, status: int) -> None:
    # Python answers SIGINT with an exception.
    code = f"try:\n    {code}\nexcept KeyboardInterrupt:\n    sys.exit(1)"
    assert run_as_first(code).returncode == status


def test_it_reaps_whoever_lost_their_parent_and_does_not_wait_for_them() -> None:
    code = """
short, long = subprocess.run(
    ["sh", "-c", "sleep 0 >&- & echo $!; sleep 1000 >&- & echo $!"], stdout=subprocess.PIPE, text=True
).stdout.split()
while Path("/proc", short).exists():
    time.sleep(0.01)
assert Path("/proc", long).exists()
sys.exit(3)
"""
    assert run_as_first(code).returncode == 3


def test_it_waits_for_a_successor_and_tells_what_became_of_that_one() -> None:
    assert run_as_first("successor('time.sleep(0.5); sys.exit(6)')").returncode == 6


def test_the_status_of_a_successor_counts_even_if_the_older_one_ends_later() -> None:
    assert run_as_first("wait_zombie(successor('sys.exit(5)'))").returncode == 5


def test_a_successor_that_failed_after_all_is_not_waited_for() -> None:
    # Its starter, who goes on, has reaped it.
    assert run_as_first("os.waitpid(successor('sys.exit(5)'), 0); sys.exit(4)").returncode == 4


def test_signals_go_to_the_newest() -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
newest = successor("time.sleep(60)")
os.kill(1, signal.SIGTERM)
wait_zombie(newest)
"""
    assert run_as_first(code).returncode == 128 + 15


def test_a_successor_that_gets_ready_too_late_is_told_to_end() -> None:
    code = """
def late(*_):
    wait_zombie(successor("time.sleep(60)"))
    sys.exit(0)

signal.signal(signal.SIGTERM, late)
os.kill(1, signal.SIGTERM)
time.sleep(60)
"""
    assert run_as_first(code).returncode == 128 + 15


def test_nothing_but_an_end_is_passed_to_a_gateway_that_does_not_serve_yet() -> None:
    # It has no handlers yet: they would end it. The kernel gives the smaller number, SIGHUP, first.
    code = "os.kill(1, signal.SIGHUP); os.kill(1, signal.SIGUSR2); os.kill(1, signal.SIGTERM); time.sleep(60)"
    assert run_as_first(code).returncode == 128 + 15


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_gateway_that_serves_is_told_everything(number: signal.Signals) -> None:
    code = f"tell_init(os.environ); os.kill(1, {int(number)}); time.sleep(60)"
    assert run_as_first(code).returncode == 128 + number


def test_what_came_too_early_is_told_to_who_serves_then() -> None:
    code = """
told = []
signal.signal(signal.SIGHUP, lambda *_: told.append("reload"))
signal.signal(signal.SIGUSR2, lambda *_: told.append("upgrade"))
for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
    os.kill(1, number)
time.sleep(0.2)
assert told == []
tell_init(os.environ)
until = time.monotonic() + 5
while len(told) < 2 and time.monotonic() < until:
    time.sleep(0.01)
time.sleep(0.2)
sys.exit(20 if sorted(told) == ["reload", "upgrade"] else 1)
"""
    assert run_as_first(code).returncode == 20


def test_who_serves_is_known_before_a_signal_that_came_later_but_has_a_smaller_number() -> None:
    code = """
import os, signal, time
from gateway import init_process as init
signal.pthread_sigmask(signal.SIG_BLOCK, init._WATCHED)
readable, told = os.pipe()
gateway = os.fork()
if not gateway:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, init._WATCHED)
    os.kill(os.getppid(), init._SERVES)
    os.kill(os.getppid(), signal.SIGUSR2)
    os.write(told, b"x")
    time.sleep(60)
os.read(readable, 1)  # both are waiting now
os._exit(init._Init(gateway).run())
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=GENEROUS_S)
    assert done.returncode == 128 + signal.SIGUSR2


def test_a_worker_is_not_taken_for_the_gateway() -> None:
    code = """
worker = dict(os.environ, SREGISTRY_WORKER="1")
tell_init(worker)
os.kill(1, signal.SIGHUP)  # as nobody serves yet
os.kill(1, signal.SIGTERM)
time.sleep(60)
"""
    assert run_as_first(code).returncode == 128 + 15


def test_what_was_said_to_process_1_reaches_the_gateway() -> None:
    # Podman hands over listening sockets in this way.
    code = "sys.exit(os.environ['LISTEN_PID'] != str(os.getpid()) or os.environ['WATCHDOG_PID'] != '77')"
    assert run_as_first(code, LISTEN_PID="1", WATCHDOG_PID="77").returncode == 0


def test_any_other_process_is_left_alone() -> None:
    code = "import os; from gateway.init_process import stay_as_first as s; p = os.getpid(); s(); assert p == os.getpid()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def contained(tmp_path: Path) -> Iterator[Product]:
    with running_product(tmp_path, start=False) as product:
        product.prefix = NAME_SPACE
        yield product


def _gateways(first: int) -> list[int]:
    """The main processes: process 1's children that run."""
    return [pid for pid in processes.direct_children_of(first) if processes.is_alive(pid)]


def test_uploads_outlive_upgrades_in_a_container_and_sigterm_ends_all_in_order(contained: Product) -> None:
    contained.start()
    (first,) = processes.direct_children_of(contained.pid)
    (old,) = _gateways(first)
    token = contained.new_user("alice")

    def upload(name: str) -> OpenUpload:
        begun = OpenUpload(contained, token=token, collection="alice/test", name=name, size_bytes=8 * MIB)
        begun.send(MIB)
        return begun

    with upload("one") as one:
        assert "the new process serves" in contained.run("gateway", "upgrade").stdout
        assert contained.get("/-/readyz")[0] == 200
        status, said = one.finish()
    assert status in {200, 201}, said
    assert processes.wait_gone([old], timeout_s=GENEROUS_S) == []
    (second,) = _gateways(first)
    assert not Path(f"/proc/{old}").exists()  # reaped

    with upload("two") as two:
        # Process 1 passes it on to the second, which is the gateway now.
        processes.send(first, signal.SIGUSR2)
        contained.wait_log(r"upgrade: the new process serves", timeout_s=GENEROUS_S)
        assert contained.get("/-/readyz")[0] == 200
        # The third is a child of the second, which still drains: it hears of the end all the same.
        (third,) = [
            pid for pid in processes.direct_children_of(second)
            if " -m gateway serve" in processes.command_line(pid)
        ]  # fmt: skip
        processes.send(first, signal.SIGTERM)
        assert processes.wait_gone([third], timeout_s=GENEROUS_S) == []
        assert processes.is_alive(first)
        status, said = two.finish()
    assert status in {200, 201, 202}, said  # 202: its core may have gone first
    assert contained.wait_ended(timeout_s=GENEROUS_S) == 0
    assert "Traceback" not in contained.log_text
