"""Owns a registry for tests: the real application on a database, driven in process, with a gateway that only stores."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from gateway.contract import (
    BLOB_PREFIX,
    COMMITS_PATH,
    TICKETS_PATH,
    TRANSFER_PREFIX,
    BlobLink,
    Commit,
    CommittedImage,
    Ticket,
    TicketQuestion,
    open_link,
    open_ticket,
    sign_call,
)
from gateway.settings import Settings
from gateway.store.keys import blob_key
from registry_core.app import build_app
from registry_core.registry import Registry, open_registry
from registry_core.service import accounts
from tests.support.asgi import ask_app
from tests.support.memory_store import MemoryStore


@dataclass(slots=True)
class FakeClock:
    """Epoch seconds that pass when told to."""

    at: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    pairs: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """The fields; of several with one name the last."""
        return dict(self.pairs)

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for field, value in self.pairs if field == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def message(self) -> str:
        """The sentence that the user of a client reads."""
        return str(self.json["error"]["message"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The application, and the things around it that tests look at."""

    registry: Registry
    app: ASGIApp
    store: MemoryStore
    clock: FakeClock
    tokens: dict[str, str] = field(default_factory=dict)

    def add_user(self, name: str, *, scope: str = "push", admin: bool = False) -> str:
        """A user's token."""
        user = accounts.add_user(self.registry, name=name, password=None, admin=admin, by="test")
        self.tokens[name] = self.token(user.name, scope=scope)
        return self.tokens[name]

    def token(self, name: str, *, scope: str, days: float | None = None) -> str:
        """One more token."""
        user = accounts.find_user(self.registry, name)
        return accounts.create_token(self.registry, user=user, scope=scope, days=days, by="test").secret

    def call(
        self, method: str, target: str, body: object = None, *, by: str = "", token: str = "", **fields: str
    ) -> Reply:
        """One request, as a user or with a token; ``fields`` are headers with '_' for '-'."""
        headers = {name.replace("_", "-").lower(): value for name, value in fields.items()}
        token = token or (self.tokens[by] if by else "")
        if token:
            headers["authorization"] = f"Bearer {token}"
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return asyncio.run(_drive(self.app, method, target, content, headers))

    def internal(self, path: str, value: object) -> Reply:
        """A call that the gateway signs."""
        body = json.dumps(value).encode()
        signed = dict(sign_call(self.registry.secret, "POST", path, body, self.clock()))
        return asyncio.run(_drive(self.app, "POST", path, body, signed))

    def ask(self, **question: Any) -> Reply:
        """The gateway's question before an upload."""
        if "by" in question:
            question["authorization"] = f"Bearer {self.tokens[question.pop('by')]}"
        return self.internal(TICKETS_PATH, asdict(TicketQuestion(**question)))

    def store_bytes(self, ticket: Ticket, container: str, content: bytes) -> str:
        """What the gateway does with a body: stored under its key. The digest."""
        digest = hashlib.sha256(content).hexdigest()
        writer = self.store.create(secrets.token_hex(8), size_hint=len(content))
        writer.write(content)
        key = blob_key(ticket.entity, ticket.collection, container, digest)
        self.store.place(writer.seal(), sha256=digest, key=key)
        return digest

    def tell(self, token: str, *images: CommittedImage) -> Reply:
        """The gateway's message after an upload."""
        return self.internal(COMMITS_PATH, asdict(Commit(ticket=token, images=images)))

    def upload(self, content: bytes, *, by: str, collection: str, name: str = "tool", tag: str = "") -> Reply:
        """A whole web upload: the refusal, or the answer to the commit."""
        asked = self.ask(by=by, collection=collection, name=name, tag=tag, declared_bytes=len(content) + 500)
        if asked.status != 200:
            return asked
        token = asked.json["ticket"]
        ticket = open_ticket(self.registry.secret, token, now=self.clock())
        digest = self.store_bytes(ticket, name, content)
        return self.tell(token, CommittedImage(sha256=digest, size=len(content), name=name, tag=tag))

    def put(self, url: str, content: bytes) -> Reply:
        """What the gateway does with ``PUT /v2/transfers/…`` of a whole image."""
        token = urlsplit(url).path.removeprefix(TRANSFER_PREFIX)
        ticket = open_ticket(self.registry.secret, token, now=self.clock())
        digest = self.store_bytes(ticket, ticket.container, content)
        return self.tell(token, CommittedImage(sha256=digest, size=len(content)))

    def link(self, location: str) -> BlobLink:
        """The link that a pull was redirected to."""
        token = urlsplit(location).path.removeprefix(BLOB_PREFIX)
        return open_link(self.registry.secret, token, now=self.clock())


def open_core(
    folder: Path, *, database_url: str = "", tls_mode: str = "dev", **registry_settings: Any
) -> Core:
    """A new registry in ``folder``."""
    settings = Settings.model_validate(
        {
            "server": {"data_dir": folder, "public_url": "https://registry.example"},
            "tls": {"mode": tls_mode},
            "registry": {"database_url": database_url, **registry_settings},
        }
    )
    clock, store = FakeClock(), MemoryStore()
    registry = open_registry(settings, store=store, clock=clock)
    return Core(registry=registry, app=build_app(registry), store=store, clock=clock)


async def _drive(app: ASGIApp, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    said = await ask_app(app, method, target, body=body, headers=headers, client=("203.0.113.9", 1))
    return Reply(status=said.status, pairs=tuple(said.fields), body=said.body)
