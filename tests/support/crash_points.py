"""Owns the killing of a disk upload between any two system calls. Run as a program: it forks, pytest must not.

``python -m tests.support.crash_points FOLDER`` kills a child before and after each call that changes the disk, once
per call, looks at what is left as the next process would, and prints how many kills that were.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import BlobMissing
from gateway.store.base import SealedBlob
from gateway.store.disk import DiskStore
from gateway.store.keys import blob_key

STAGED = "0123-abcd"
DATA = b"a singularity image " * 1000
SHA = hashlib.sha256(DATA).hexdigest()
KEY = blob_key("alice", "tools", "fold", SHA)
SEALED = SealedBlob(staged=STAGED, size=len(DATA))
CHANGING_CALLS = (
    "open",
    "write",
    "ftruncate",
    "fchmod",
    "fsync",
    "link",
    "replace",
    "unlink",
    "mkdir",
    "rmdir",
)
KILLED = 9

type Story = Callable[[DiskStore], None]


def upload(store: DiskStore) -> None:
    writer = store.create(STAGED, size_hint=None)
    writer.write(DATA)
    writer.seal()
    store.place(SEALED, sha256=SHA, key=KEY)


def upload_over_damaged_bytes(store: DiskStore) -> None:
    upload(store)
    (store_root(store) / "objects" / "sha256" / SHA[:2] / SHA).unlink()
    (store_root(store) / "objects" / "sha256" / SHA[:2] / SHA).write_bytes(b"damaged")
    upload(store)


def delete_and_collect(store: DiskStore) -> None:
    upload(store)
    store.delete(KEY)
    store.collect(older_than_s=0, dry_run=False)


def store_root(store: DiskStore) -> Path:
    return store._root


def run_killed(story: Story, root: Path, *, step: int) -> bool:
    """Run the story in a child that dies at this step; False if it got to its end."""
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

        for name in CHANGING_CALLS:
            setattr(os, name, killing(getattr(os, name)))
        story(DiskStore(root, reserve_bytes=0, fsync=True))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, KILLED):
        raise AssertionError(f"step {step}: the child ended with {code}")
    return code == KILLED


def left_over(root: Path) -> list[Path]:
    """Every file in the trees; of the digests' folders the only one that these stories touch."""
    trees = (root / "staging", root / "blobs", root / "objects" / "sha256" / SHA[:2])
    return [path for tree in trees for path in tree.rglob("*") if path.is_file()]


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in left_over(root))


def check_whole(store: DiskStore) -> None:
    with store.open(KEY) as file:
        assert file.read() == DATA


def check_swept(root: Path) -> None:
    """The next start sweeps: the key is whole or absent, and nothing else is left."""
    store = DiskStore(root, reserve_bytes=0, fsync=True)
    store.sweep(parts_older_than_s=0)
    store.collect(older_than_s=0, dry_run=False)
    object_file = f"objects/sha256/{SHA[:2]}/{SHA}"
    if list(store.keys()):
        check_whole(store)
        assert files(root) == [f"blobs/{KEY}", object_file], files(root)
    else:
        assert files(root) == [], files(root)


def check_repeated(root: Path) -> None:
    """Whoever was killed places again what it had sealed."""
    store = DiskStore(root, reserve_bytes=0, fsync=True)
    try:
        store.place(SEALED, sha256=SHA, key=KEY)
    except BlobMissing:
        assert not list(store.keys())
    else:
        check_whole(store)
        assert store.has(SHA)
    check_swept(root)


def check_again(root: Path) -> None:
    """A client that got no answer uploads again, under a new name."""
    store = DiskStore(root, reserve_bytes=0, fsync=True)
    writer = store.create("ffff", size_hint=len(DATA))
    writer.write(DATA)
    store.place(writer.seal(), sha256=SHA, key=KEY)
    check_whole(store)
    check_swept(root)


def clear(root: Path) -> None:
    """An empty store again, but for the folders of the digests: they are made once, all alike."""
    shutil.rmtree(root / "blobs", ignore_errors=True)
    for path in left_over(root):
        path.unlink()


def main(root: Path) -> None:
    kills = 0
    os.fsync = lambda fd: None  # what is killed here are processes, not machines; the call still is a step
    upload(DiskStore(root, reserve_bytes=0, fsync=True))
    stories: tuple[tuple[Story, tuple[Callable[[Path], None], ...]], ...] = (
        (upload, (check_swept, check_again)),
        (delete_and_collect, (check_swept, check_again)),
        (upload_over_damaged_bytes, (check_again,)),
    )
    for story, checks in stories:
        for check in checks:
            step = 0
            clear(root)
            while run_killed(story, root, step=step):
                check(root)
                clear(root)
                step += 1
            kills += step
    print(kills + repeat_place(root))


def repeat_place(root: Path) -> int:
    """Kill within ``place`` alone, and place again, until a whole run gets through."""
    step = 0
    while True:
        clear(root)
        store = DiskStore(root, reserve_bytes=0, fsync=True)
        writer = store.create(STAGED, size_hint=None)
        writer.write(DATA)
        writer.seal()
        killed = run_killed(_place, root, step=step)
        store.place(SEALED, sha256=SHA, key=KEY)
        check_whole(store)
        assert store.has(SHA)
        check_swept(root)
        if not killed:
            return step
        step += 1


def _place(store: DiskStore) -> None:
    store.place(SEALED, sha256=SHA, key=KEY)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
