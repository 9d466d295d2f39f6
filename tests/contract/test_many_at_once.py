"""Owns what happens when many push at the same moment, on every database: nothing lost, nothing doubled, no 5xx."""

import threading
from collections.abc import Callable

from gateway.contract import CommittedImage, open_ticket
from registry_core.service import accounts
from tests.contract.conftest import OpenCore
from tests.support.core import Core
from tests.support.library_push import push

AT_ONCE = 8


def all_at_once(work: Callable[[int], object]) -> list[object]:
    """What each of them did; the first failure is raised."""
    barrier = threading.Barrier(AT_ONCE)
    done: list[object] = [None] * AT_ONCE
    failed: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            done[number] = work(number)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return done


def test_first_pushes_to_one_new_place(core: Core) -> None:
    all_at_once(lambda n: push(core, "alice/new/tool", b"%d" % n * 50, by="alice", tag=f"v{n}"))
    inside = core.call("GET", "/v1/containers/alice/new/tool", by="alice").data
    assert inside["archTags"]["amd64"].keys() == {f"v{n}" for n in range(AT_ONCE)}
    assert len(inside["images"]) == AT_ONCE


def test_one_tag_moved_by_all_names_one_image(core: Core) -> None:
    all_at_once(lambda n: push(core, "alice/new/tool", b"%d" % n * 50, by="alice", tag="latest"))
    inside = core.call("GET", "/v1/containers/alice/new/tool", by="alice").data
    assert inside["archTags"]["amd64"].keys() == {"latest"}
    assert inside["archTags"]["amd64"]["latest"] in inside["images"]


def test_one_image_pushed_by_all_is_one(core: Core) -> None:
    ids = {
        getattr(done, "image", None)
        for done in all_at_once(lambda _n: push(core, "alice/new/tool", b"same" * 50, by="alice"))
    }
    assert len(ids) == 1


def test_web_uploads_to_one_new_collection(core: Core) -> None:
    replies = all_at_once(
        lambda n: core.upload(b"%d" % n * 50, by="alice", collection="alice/web", name=f"t{n}")
    )
    assert {getattr(reply, "status", 0) for reply in replies} == {200}


def test_one_commit_told_by_many_is_done_once(core: Core) -> None:
    token = core.ask(by="alice", collection="alice/test", name="tool").json["ticket"]
    ticket = open_ticket(core.registry.secret, token, now=core.clock())
    digest = core.store_bytes(ticket, "tool", b"content" * 30)
    told = CommittedImage(sha256=digest, size=210, name="tool", tag="v1")
    replies = all_at_once(lambda _n: core.tell(token, told))
    assert len({getattr(reply, "body", b"") for reply in replies}) == 1
    assert core.call("GET", "/v1/images/alice/test/tool:v1").status == 200


def test_a_quota_is_not_passed_together(new_core: OpenCore) -> None:
    core = new_core(quota_bytes=1000)
    core.add_user("alice")
    tickets = [
        core.ask(by="alice", collection="alice/test", name="tool").json["ticket"] for _ in range(AT_ONCE)
    ]

    def tell(number: int) -> int:
        ticket = open_ticket(core.registry.secret, tickets[number], now=core.clock())
        digest = core.store_bytes(ticket, "tool", b"%d" % number * 400)
        return core.tell(tickets[number], CommittedImage(sha256=digest, size=400, name="tool")).status

    assert sorted(all_at_once(tell), key=str) == [200, 200, *[413] * (AT_ONCE - 2)]


def test_a_token_is_made_by_each(core: Core) -> None:
    user = accounts.find_user(core.registry, "alice")
    made = all_at_once(
        lambda _n: accounts.create_token(core.registry, user=user, scope="pull", days=1, by="test").secret
    )
    assert len(set(made)) == AT_ONCE
