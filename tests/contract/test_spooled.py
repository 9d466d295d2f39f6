"""Owns that the core takes what the gateway allowed in its absence only from those whom it would allow it now."""

from dataclasses import replace

import pytest

from gateway.contract import CommittedImage, Ticket, open_ticket, seal
from registry_core.service import accounts, identity
from tests.support.core import Core, Reply
from tests.support.library_push import push

CONTENT = b"spooled bytes"


def spooled(core: Core, *, collection: str = "alice/test", by: str = "alice", **changes: object) -> Reply:
    """A ticket as the gateway writes it after an earlier yes, and the core's answer when it is told."""
    token, ticket = granted(core, collection=collection, by=by)
    return told(core, ticket, token, **changes)


def granted(core: Core, *, collection: str = "alice/test", by: str = "alice") -> tuple[str, Ticket]:
    asked = core.ask(by=by, collection=collection, name="tool")
    assert asked.status == 200
    return asked.json["credential"], open_ticket(core.registry.secret, asked.json["ticket"], now=None)


def told(core: Core, ticket: Ticket, credential: str, **changes: object) -> Reply:
    own = replace(ticket, **({"kind": "spooled", "id": "5" * 32, "credential": credential} | changes))  # type: ignore[arg-type]
    digest = core.store_bytes(own, "tool", CONTENT)
    image = CommittedImage(sha256=digest, size=len(CONTENT), name="tool", tag="v1")
    return core.tell(seal(core.registry.secret, own), image)


def test_what_was_allowed_and_still_is_gets_listed(core: Core) -> None:
    answered = spooled(core)
    assert answered.status == 200
    assert answered.data["images"][0]["ref"].startswith("alice/test/tool:v1")
    assert core.call("GET", "/v1/images/alice/test/tool:v1", by="alice").status == 200


def test_a_revoked_token_has_uploaded_nothing(core: Core) -> None:
    credential, ticket = granted(core)
    accounts.revoke_token(core.registry, int(credential.removeprefix("token:")), by="test")
    refused = told(core, ticket, credential)
    assert refused.status == 403
    assert "revoked" in refused.json["error"]["message"]


@pytest.mark.parametrize("credential", ["", "token:", "token:999", "session:1", "nonsense:1"])
def test_a_credential_that_is_none_has_uploaded_nothing(core: Core, credential: str) -> None:
    _, ticket = granted(core)
    assert told(core, ticket, credential).status == 403


def test_a_disabled_account_and_somebody_elses_collection_are_refused(core: Core) -> None:
    push(core, "bob/own/tool", b"content", by="bob")
    credential, ticket = granted(core)
    assert told(core, replace(ticket, entity="bob", collection="own"), credential).status in {403, 404}
    assert told(core, replace(ticket, user="bob"), credential).status == 403
    accounts.change_user(core.registry, name="alice", disabled=True, by="test")
    assert told(core, ticket, credential).status == 403


def test_what_waited_too_long_is_refused(core: Core) -> None:
    assert spooled(core, expires=int(core.clock()) - 1).status == 403


def test_a_browser_session_counts_for_as_long_as_it_lasts(core: Core) -> None:
    user = accounts.add_user(core.registry, name="eve", password=None, by="test")
    signed_in = identity.begin_session(core.registry, user, address="192.0.2.1", how="test")
    question = {"collection": "eve/test", "name": "tool", "csrf_token": signed_in.actor.csrf}
    asked = core.ask(cookie=f"{identity.SESSION_COOKIE}={signed_in.cookie}", **question)
    assert asked.json["credential"] == f"session:{signed_in.actor.session_id}"
    ticket = open_ticket(core.registry.secret, asked.json["ticket"], now=None)
    assert told(core, ticket, asked.json["credential"]).status == 200
    identity.sign_out(core.registry, signed_in.actor)
    assert told(core, replace(ticket, collection="more"), asked.json["credential"], id="6" * 32).status == 403
