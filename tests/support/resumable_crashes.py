"""Owns the killing of a resumable upload between any two system calls. Run as a program: it forks, pytest must not.

``python -m tests.support.resumable_crashes FOLDER`` kills a gateway before and after each call that changes the disk,
once per call, goes on with the upload as its client would, and prints how many kills that were.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.outbox_records import OutboxFolder
from gateway.store.disk import DiskStore
from tests.support.crash_points import CHANGING_CALLS, KILLED
from tests.support.raw_server import run
from tests.support.resumable import make, patch, tus
from tests.support.upload_bench import UploadBench, upload_bench

DATA = b"a singularity image " * 1000
HALF = len(DATA) // 2
SHA = hashlib.sha256(DATA).hexdigest()


def open_store(root: Path) -> DiskStore:
    return DiskStore(root / "store", reserve_bytes=0, fsync=False)


def note(root: Path, text: str) -> None:
    """What the client knows; survives the gateway."""
    with (root / "client").open("a") as file:
        file.write(text + "\n")


async def upload(root: Path, begin_killing: Callable[[], None]) -> None:
    """A client uploads in two pieces."""
    async with upload_bench(store=open_store(root), folder=root) as bench:
        begin_killing()
        url = await make(bench, len(DATA))
        note(root, url)
        for start, end in ((0, HALF), (HALF, len(DATA))):
            answer = await patch(bench, url, start, DATA[start:end])
            assert answer.status == 204, answer
            note(root, str(answer.offset))


async def go_on(root: Path) -> None:
    """The gateway is back, and so is the client."""
    url, *told = (root / "client").read_text().split() if (root / "client").exists() else ["", "0"]
    async with upload_bench(store=open_store(root), folder=root) as bench:
        if url:
            looked = await tus(bench, "HEAD", url)
            assert looked.status == 204, looked
            assert looked.offset >= int(told[-1] if told else 0)
            if looked.offset < len(DATA):
                looked = await patch(bench, url, looked.offset, DATA[looked.offset :])
            if "image-digest" not in looked.fields:  # the outbox has it since before the crash
                await bench.resources.outbox.flush()
                looked = await tus(bench, "HEAD", url)
            assert looked["image-digest"] == f"sha256:{SHA}", looked
            check_image(bench)
            assert (await tus(bench, "DELETE", url)).status == 204
            check_image(bench)
        now = bench.records.clock()
        bench.records.clock = lambda: now + 1e6
        for path in (root / "resumable").glob("*"):
            os.utime(path, (0, 0))
        bench.records.sweep(bench.store.discard_staged)
        bench.store.sweep(parts_older_than_s=-1)
        assert list((root / "resumable").glob("*")) == []
        assert bench.is_clean
        assert OutboxFolder(root / "outbox").names() == []


def check_image(bench: UploadBench) -> None:
    [key] = bench.keys
    with bench.store.open(key) as file:
        assert file.read() == DATA


def run_killed(root: Path, *, step: int) -> bool:
    """Upload in a child that dies at this step; False if it got to its end."""
    child = os.fork()
    if child == 0:
        steps = iter(range(1_000_000))

        def killing(call: Callable[..., Any]) -> Callable[..., Any]:
            def killed(*args: Any, **kwargs: Any) -> Any:
                if next(steps) == step:
                    os._exit(KILLED)
                result = call(*args, **kwargs)
                if next(steps) == step:
                    os._exit(KILLED)
                return result

            return killed

        def begin_killing() -> None:
            for name in CHANGING_CALLS:
                setattr(os, name, killing(getattr(os, name)))

        run(upload(root, begin_killing))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, KILLED):
        raise AssertionError(f"step {step}: the child ended with {code}")
    return code == KILLED


def clear(root: Path) -> None:
    """Nothing again, but for the folders of the digests: they are made once, all alike."""
    for path in (root / "resumable", root / "outbox", root / "store" / "staging", root / "store" / "blobs"):
        shutil.rmtree(path, ignore_errors=True)
    (root / "client").unlink(missing_ok=True)
    for path in (root / "store").rglob("*"):
        if path.is_file():
            path.unlink()


def main(root: Path) -> None:
    run(upload(root, lambda: None))
    step = 0
    while True:
        clear(root)
        was_killed = run_killed(root, step=step)
        try:
            run(go_on(root))
        except BaseException as exc:
            raise AssertionError(f"killed at step {step}") from exc
        if not was_killed:
            break
        step += 1
    print(step)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
