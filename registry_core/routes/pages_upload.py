"""Owns the upload page. The form itself goes to the gateway, which asks the core before the first byte of a file."""

from collections.abc import Sequence
from typing import Final

from starlette.routing import Route

from gateway.contract import TicketQuestion
from gateway.errors import BadForm
from registry_core import policy
from registry_core.routes.pages_frame import Allowed, Page, Site, Visit
from registry_core.service import browse, tickets

_MOST_DIGITS: Final = 18


def routes(site: Site) -> Sequence[Route]:
    """The routes."""
    return (
        site.route("/upload", get=show_upload),
        site.route("/upload/check", post=check_upload),
    )


def show_upload(site: Site, visit: Visit) -> Page:
    actor = policy.require_user(visit.who)
    places = browse.pushable_collections(site.registry, actor)
    values = {
        "places": places,
        "collection": visit.query.get("collection", places[0] if places else f"{actor.name}/images"),
        "name": visit.query.get("name", ""),
        "tag": visit.query.get("tag", "latest"),
        "uploader": True,
    }
    return Page(template="upload.html", values=values)


def check_upload(site: Site, visit: Visit) -> Allowed:
    """Whether an upload would be taken. A browser that is still sending often cannot read an early refusal."""
    size = visit.said("size")
    if not (size.isascii() and size.isdecimal() and len(size) <= _MOST_DIGITS):
        raise BadForm("The size of the file is missing.")
    question = TicketQuestion(
        collection=visit.said("collection"),
        name=visit.said("name"),
        tag=visit.said("tag"),
        declared_bytes=int(size),
        authorization=visit.headers.get("authorization", ""),
        cookie=visit.headers.get("cookie", ""),
        csrf_token=visit.said("csrf_token"),
        client=visit.client,
    )
    tickets.grant(site.registry, question)
    return Allowed()
