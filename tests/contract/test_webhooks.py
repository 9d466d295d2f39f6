"""Owns what receivers of webhooks may rely on, on every database."""

import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import func, select

from gateway.errors import BadForm, Forbidden, NotFound
from registry_core.policy import Actor, Scope
from registry_core.repo import schema
from registry_core.service import cleaning, removal, webhooks
from tests.contract.conftest import OpenCore
from tests.support.core import Core
from tests.support.library_push import push

ADMIN = Actor(user_id=-1, name="test", admin=True, scope=Scope.ADMIN)


class Receiver:
    """A receiver that remembers, and answers what it is told to."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_push_and_a_delete_are_told_signed(core: Core, receiver: Receiver) -> None:
    _id, secret = webhooks.add(core.registry, ADMIN, url=receiver.url)
    push(core, "alice/test/tool", b"content", by="alice")
    core.call("DELETE", "/v1/images/alice/test/tool:latest", by="alice")
    assert webhooks.deliver_due(core.registry) == 2
    assert webhooks.deliver_due(core.registry) == 0
    events = []
    for headers, body in receiver.got:
        expected = "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()
        assert headers["x-registry-signature"] == expected
        value = json.loads(body)
        events.append((headers["x-registry-event"], value["event"], value["by"], value["size"]))
    assert events == [("push", "push", "alice", 7), ("delete", "delete", "alice", 7)]


def test_a_receiver_that_fails_is_told_again_later(core: Core, receiver: Receiver) -> None:
    webhooks.add(core.registry, ADMIN, url=receiver.url, events=("push",))
    push(core, "alice/test/tool", b"content", by="alice")
    receiver.status = 500
    for attempt in range(1, webhooks.MOST_ATTEMPTS + 1):
        assert webhooks.deliver_due(core.registry) == 0
        assert len(receiver.got) == attempt
        webhooks.deliver_due(core.registry)
        assert len(receiver.got) == attempt
        core.clock.at += webhooks.pause_s(attempt)
    webhooks.deliver_due(core.registry)
    assert len(receiver.got) == webhooks.MOST_ATTEMPTS
    assert len({headers["x-registry-delivery"] for headers, _ in receiver.got}) == 1


def test_a_receiver_that_is_away_holds_nothing_up(core: Core, receiver: Receiver) -> None:
    receiver.server.server_close()
    webhooks.add(core.registry, ADMIN, url=receiver.url)
    assert core.upload(b"content", by="alice", collection="alice/test").status == 200
    assert webhooks.deliver_due(core.registry) == 0


def test_a_webhook_hears_only_of_its_collection(core: Core, receiver: Receiver) -> None:
    push(core, "alice/one/tool", b"content", by="alice")
    hook_id, _ = webhooks.add(core.registry, ADMIN, url=receiver.url, collection="alice/one")
    push(core, "alice/two/tool", b"other", by="alice")
    push(core, "alice/one/tool", b"third", by="alice")
    assert webhooks.deliver_due(core.registry) == 1
    (listed,) = webhooks.all_hooks(core.registry, ADMIN)
    assert listed.collection == "alice/one"
    webhooks.remove(core.registry, ADMIN, hook_id)
    push(core, "alice/one/tool", b"fourth", by="alice")
    assert webhooks.deliver_due(core.registry) == 0
    with pytest.raises(NotFound):
        webhooks.remove(core.registry, ADMIN, hook_id)


@pytest.mark.parametrize("url", ["ftp://x/", "https://", "nonsense", "file:///etc/passwd"])
def test_other_urls_are_refused(core: Core, url: str) -> None:
    with pytest.raises(BadForm):
        webhooks.add(core.registry, ADMIN, url=url)


def test_only_administrators_make_webhooks(core: Core) -> None:
    alice = Actor(user_id=1, name="alice", admin=False, scope=Scope.ADMIN)
    with pytest.raises(Forbidden):
        webhooks.add(core.registry, alice, url="https://example.org/")


def test_a_push_without_room_is_told_once_a_minute(new_core: OpenCore, receiver: Receiver) -> None:
    core = new_core(quota_bytes=1000)
    core.add_user("alice")
    webhooks.add(core.registry, ADMIN, url=receiver.url, events=("quota",))
    push(core, "alice/test/tool", b"fits" * 20, by="alice")
    for _ in range(2):
        asked = core.ask(by="alice", collection="alice/test", name="tool", declared_bytes=200_000)
        assert asked.status == 413
    assert webhooks.deliver_due(core.registry) == 1
    core.clock.at += 61
    container = core.call("GET", "/v1/containers/alice/test/tool", by="alice").data["id"]
    wanted = {"hash": "sha256." + "0" * 64, "container": container}
    image = core.call("POST", "/v1/images", wanted, by="alice").data
    assert core.call("POST", f"/v2/imagefile/{image['id']}", {"filesize": 2000}, by="alice").status == 413
    assert webhooks.deliver_due(core.registry) == 1
    told = [json.loads(body) for _headers, body in receiver.got]
    assert [(one["event"], one["image"], one["by"]) for one in told] == [("quota", "alice/test", "alice")] * 2
    assert told[1]["size"] == 2000


@pytest.mark.parametrize("url", ["http://host:99999/", "http://host:zero/", "http://[::1/", "http://host:0/"])
def test_an_address_that_is_none_is_refused_at_once(core: Core, url: str) -> None:
    with pytest.raises(BadForm):
        webhooks.add(core.registry, ADMIN, url=url)


@pytest.mark.parametrize("url", ["http://a..b/", f"http://{'a' * 70}.example/", "http://127.0.0.1:1/h\u00e9"])
def test_an_address_that_cannot_be_reached_ends_no_chore(core: Core, url: str) -> None:
    webhooks.add(core.registry, ADMIN, url=url)
    push(core, "alice/test/tool", b"content", by="alice")
    assert webhooks.deliver_due(core.registry) == 0


def test_a_collections_own_webhook_hears_of_its_deletion_and_then_of_nothing_more(
    core: Core, receiver: Receiver
) -> None:
    push(core, "alice/test/tool", b"content", by="alice")
    webhooks.add(core.registry, ADMIN, url=receiver.url, collection="alice/test")
    receiver.status = 500
    removal.delete_collection(core.registry, ADMIN, "alice", "test")
    assert webhooks.deliver_due(core.registry) == 0
    assert webhooks.all_hooks(core.registry, ADMIN) == []
    cleaning.forget(core.registry)  # what waits keeps its webhook
    receiver.status, core.clock.at = 204, core.clock.at + webhooks.pause_s(1)
    assert webhooks.deliver_due(core.registry) == 2
    told = [json.loads(body) for _headers, body in receiver.got[-2:]]
    assert {one["event"] for one in told} == {"delete"}
    assert told[1]["image"] == "alice/test"
    push(core, "alice/test/tool", b"again", by="alice")
    assert webhooks.deliver_due(core.registry) == 0
    cleaning.forget(core.registry)
    with core.registry.database.read() as db:
        assert db.execute(select(func.count()).select_from(schema.webhooks)).scalar_one() == 0


def test_the_log_tells_no_secret_of_an_address(
    core: Core, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.server.server_close()
    url = receiver.url.replace("/hook?x=1", "/services/T0/SECRETPATH?key=SECRETKEY").replace(
        "http://", "http://user:SECRETWORD@"
    )
    webhooks.add(core.registry, ADMIN, url=url)
    push(core, "alice/test/tool", b"content", by="alice")
    webhooks.deliver_due(core.registry)
    with core.registry.database.read() as db:
        outcome = db.execute(select(schema.deliveries.c.outcome)).scalar_one()
    said = caplog.text + outcome
    assert "SECRET" not in said
    assert f"http://127.0.0.1:{receiver.server.server_port}/…" in said
