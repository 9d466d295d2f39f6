"""Owns the proof of ``gateway trace`` on the running product: all hops, nothing secret, and nothing left on."""

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.product import BIN, Product, running_product
from tests.support.tracing import PATIENCE_S, bare_environ, tracing


def sockets(product: Product) -> list[Path]:
    return sorted((product.data_dir / "run").glob("trace-*.sock"))


def upload(product: Product, token: str, name: str, size: int = 3_000_000) -> str:
    """An image uploaded by curl; what was answered."""
    file = product.folder / f"{name}.sif"
    file.write_bytes(b"x" * size)
    done = product.curl(
        "-H", f"Authorization: Bearer {token}", "-F", f"name={name}", "-F", f"file=@{file}",
        f"{product.base}/upload?collection={name}/t",
    )  # fmt: skip
    return done.stdout


def wait_direct(product: Product, hop: str) -> None:
    """Until the gateway says that it goes its own way again."""
    deadline = time.monotonic() + PATIENCE_S
    while f"the hop to {hop} is direct again" not in product.log_text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_upload_is_one_story_with_its_ticket_and_its_commit(shared: Product) -> None:
    token = shared.new_user("trace-ada")
    with tracing(shared, "--verbose") as trace:
        upload(shared, token, "trace-ada")
        story = trace.wait_for("/upload?collection=trace-ada/t")
        assert trace.end() == 0
    assert (story["status"], story["method"], story["client"], story["route"]) == (
        201,
        "POST",
        "127.0.0.1",
        "upload",
    )
    assert story["bytes_in"] > 3_000_000
    assert [hop["target"] for hop in story["hops"]] == ["/internal/tickets", "/internal/commits"]
    assert {hop["id"] for hop in story["hops"]} == {story["id"]}
    assert all(0 < hop["seconds"] <= story["seconds"] + 0.01 for hop in story["hops"])
    heads = json.dumps(story)
    assert token not in heads
    assert ["authorization", "Bearer ***"] in story["request_head"]
    assert ["x-gateway-signature", "***"] in story["hops"][0]["request_head"]


def test_filters_and_masks_hold_on_the_way_to_the_terminal(shared: Product) -> None:
    with tracing(shared, "--status", "4xx", "--path", "/no*") as trace:
        shared.get("/")
        shared.get("/nothing/here?token=sesame")
        story = trace.next()
        trace.end()
    assert (story["target"], story["status"]) == ("/nothing/here?token=***", 404)
    assert "request_head" not in story


def test_the_socket_is_for_the_gateways_own_user_and_goes_with_its_process(short_path: Path) -> None:
    with running_product(short_path) as product:
        [socket] = sockets(product)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        product.kill()
        assert sockets(product) == [socket]  # a killed process cannot tidy up
        product.start()
        [fresh] = sockets(product)
        assert fresh != socket
        with tracing(product, "--verbose") as trace:
            assert product.stop(timeout_s=10) == 0  # nobody is waited for
            assert trace.wait() == 1
        assert "the gateway has ended" in trace.notes
        assert sockets(product) == []
        done = product.run("gateway", "trace", "--for", "1", check=False)
        assert done.returncode == 1
        assert "no gateway runs here" in done.stderr


def test_every_worker_is_heard(short_path: Path) -> None:
    with running_product(short_path, flags=("--workers", "2")) as product:
        assert len(sockets(product)) == 2
        with tracing(product) as trace:
            seen: set[int] = set()
            for _ in range(200):
                product.get("/v1/entities/nobody")
                seen.add(trace.wait_for("/v1/entities/nobody")["pid"])
                if len(seen) == 2:
                    break
            assert len(seen) == 2


def test_mitmproxy_stands_in_the_hop_to_the_core_and_leaves_it(shared: Product, short_path: Path) -> None:
    token = shared.new_user("trace-eve")
    file = short_path / "flows.mitm"
    with tracing(shared, "--inspect", "core", "--save", str(file)) as trace:
        assert "inspecting: core by 127.0.0.1:" in trace.notes
        upload(shared, token, "trace-eve")
        story = trace.wait_for("/upload?collection=trace-eve/t")
        assert shared.get("/nothing/here?token=sesame")[0] == 404
        trace.wait_for("/nothing/here?token=***")
        assert trace.end() == 0
    assert [hop["target"] for hop in story["hops"]] == ["/internal/tickets", "/internal/commits"]
    # Only mitmproxy's own events have heads without --verbose: it is they that are shown.
    assert all("x-gateway-signature" in dict(hop["request_head"]) for hop in story["hops"])
    wait_direct(shared, "core")
    assert shared.get("/")[0] == 200
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token.encode() not in file.read_bytes()
    assert b"sesame" not in file.read_bytes()
    replayed = [
        json.loads(line)
        for line in shared.run("gateway", "trace", "--json", "--replay", str(file)).stdout.splitlines()
    ]
    assert [event["target"] for event in replayed] == [
        "/internal/tickets", "/internal/commits", "/nothing/here?token=***",
    ]  # fmt: skip
    assert replayed[2]["status"] == 404
    dumped = subprocess.run(
        [str(BIN / "mitmdump"), "--no-server", "--rfile", str(file), "--set", "flow_detail=1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        env={**shared.environ, "HOME": str(short_path)},
    )
    assert "/internal/tickets" in dumped.stdout


def test_a_trace_that_is_killed_leaves_the_gateway_as_it_was(shared: Product) -> None:
    with tracing(shared, "--inspect", "core") as trace:
        assert shared.get("/v1/entities/nobody")[0] == 404
        trace.end(signal.SIGKILL)
    # At once: nobody has to wait for the gateway to notice.
    assert shared.get("/v1/entities/nobody")[0] == 404
    wait_direct(shared, "core")
    assert "the core is down" not in shared.log_text


def test_one_hop_is_inspected_by_one_trace_at_a_time(shared: Product) -> None:
    with tracing(shared, "--inspect", "core"):
        second = shared.run("gateway", "trace", "--inspect", "core", "--for", "1", check=False)
    assert second.returncode == 1
    assert "core is being inspected already" in second.stderr


def test_all_is_never_silently_less_than_all(shared: Product) -> None:
    with tracing(shared, "--inspect", "all") as trace:
        assert "there is no hop to S3: images are not kept in S3" in trace.notes
        assert "inspecting: core by 127.0.0.1:" in trace.notes
        trace.end()


def test_who_reads_no_further_ends_it_quietly(shared: Product, short_path: Path) -> None:
    """``gateway trace | head``, live and from a file."""
    file = short_path / "flows.mitm"
    with tracing(shared, "--inspect", "core", "--save", str(file)) as trace:
        shared.get("/v1/entities/nobody")
        trace.next()
        trace.end()
    for words in (("--replay", str(file)), ()):
        reading, writing = os.pipe()
        os.close(reading)
        with subprocess.Popen(
            [str(BIN / "gateway"), "trace", "--data-dir", str(shared.data_dir), *words],
            env=bare_environ(shared),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            os.close(writing)
            assert process.stderr is not None
            notes = ""
            if not words:
                notes = process.stderr.readline()
                shared.get("/v1/entities/nobody")
            _, rest = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert notes + rest in {"", "gateway trace: listening; Ctrl-C ends\n"}


def test_the_serving_process_never_loads_mitmproxy(shared: Product) -> None:
    with tracing(shared, "--inspect", "core", "--verbose") as trace:
        shared.get("/")
        trace.wait_for("/")
        maps = Path(f"/proc/{shared.pid}/maps").read_text()
        assert "mitmproxy_rs" not in maps
        trace.end()
    code = (
        "import sys; import gateway.app, registry_core.app, gateway.trace.diagnosis;"
        "sys.exit(any(name.split('.')[0] in {'mitmproxy', 'mitmproxy_rs'} for name in sys.modules))"
    )
    subprocess.run([str(BIN / "python"), "-c", code], check=True, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--status", "9xx"), "no status"),
        (("--client", "example.org"), "no address"),
        (("--save", "x"), "belong to --inspect"),
        (("--inspect", "s3"), "not kept in S3"),
        (("--inspect", "all", "--listen", "127.0.0.1:0"), "not kept in S3"),
    ],
)
def test_wrong_usage_is_said_and_exits_2(shared: Product, words: tuple[str, ...], said: str) -> None:
    done = shared.run("gateway", "trace", *words, check=False)
    assert (done.returncode, said in done.stderr) == (2, True)


def test_a_file_that_is_none_of_mitmproxys_is_said_to_be(shared: Product, short_path: Path) -> None:
    file = short_path / "no.mitm"
    file.write_text("not flows")
    done = shared.run("gateway", "trace", "--replay", str(file), check=False)
    assert done.returncode == 1
    assert "is no flow file of mitmproxy" in done.stderr
