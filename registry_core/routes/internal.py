"""Owns what the gateway calls: tickets, commits, health. Without a valid signature there is nothing here."""

from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.contract import (
    CALL_SIGNATURE_HEADER,
    CALL_TIME_HEADER,
    COMMITS_PATH,
    HEALTH_PATH,
    TICKETS_PATH,
    Commit,
    CommittedImage,
    TicketQuestion,
    call_is_signed,
)
from gateway.errors import BadForm, NotFound
from registry_core.registry import Registry
from registry_core.routes.call import Answer, Call, api_route, data, respond
from registry_core.service import commits, health, tickets


def routes(registry: Registry) -> Sequence[Route]:
    """The internal routes."""

    async def show_health(request: Request) -> Response:
        if request.query_params.get("deep") != "1":
            return respond(Answer(body={"status": "ok"}))
        report = await run_in_threadpool(health.look, registry)
        return respond(Answer(status=200 if report["status"] == "ok" else 503, body=report))

    return (
        api_route(registry, TICKETS_PATH, {"POST": grant_ticket}),
        api_route(registry, COMMITS_PATH, {"POST": take_commit}),
        Route(HEALTH_PATH, show_health, methods=["GET"]),
    )


def _check_signature(registry: Registry, call: Call) -> None:
    signed = call_is_signed(
        registry.secret,
        call.method,
        call.target,
        call.body,
        stamp=call.headers.get(CALL_TIME_HEADER, ""),
        signature=call.headers.get(CALL_SIGNATURE_HEADER, ""),
        now=registry.clock(),
    )
    if not signed:
        raise NotFound


def grant_ticket(registry: Registry, call: Call) -> Answer:
    _check_signature(registry, call)
    question = _read(TicketQuestion, _body(call))
    ticket, credential = tickets.grant(registry, question)
    return Answer(body={"ticket": ticket, "credential": credential})


def take_commit(registry: Registry, call: Call) -> Answer:
    _check_signature(registry, call)
    body = _body(call)
    listed = body.get("images")
    if not isinstance(listed, list):
        raise BadForm("A commit lists its images.")
    told = Commit(
        ticket=str(body.get("ticket", "")), images=tuple(_read(CommittedImage, one) for one in listed)
    )
    return data(commits.commit(registry, told))


def _body(call: Call) -> dict[str, Any]:
    return dict(call.json)


def _read[T](kind: type[T], value: dict[str, Any]) -> T:
    try:
        return kind(**value)
    except TypeError as exc:
        raise BadForm(f"This is no {kind.__name__}.", detail=str(exc)) from exc
