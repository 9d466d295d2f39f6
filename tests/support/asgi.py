"""Owns one request to an ASGI application, in process."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: every field in its order."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes


async def ask_app(
    app: ASGIApp,
    method: str,
    target: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    client: tuple[str, int] = ("", 0),
) -> Answer:
    """One request over https, with the whole body at once. ``target`` is path and query, not escaped."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": client,
        "server": ("registry.example", 443),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(
        status=sent[0]["status"],
        fields=[(name.decode(), value.decode()) for name, value in sent[0]["headers"]],
        body=b"".join(message.get("body", b"") for message in sent[1:]),
    )
