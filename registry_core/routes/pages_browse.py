"""Owns the pages on which people look around: home, search, the list of collections."""

from collections.abc import Sequence

from starlette.routing import Route

from gateway.errors import BadForm, NotFound
from registry_core.names import fold_name
from registry_core.paths import collection_path
from registry_core.routes.pages_frame import Form, Page, Redirect, Site, Visit
from registry_core.service import browse, places
from registry_core.service.search import Hits, search


def routes(site: Site) -> Sequence[Route]:
    """The routes."""
    return (
        site.route("/", get=show_home),
        site.route("/search", get=show_search),
        site.route("/collections", get=show_collections, post=make_collection),
        site.route("/collections/{entity}", get=show_entity),
    )


def show_home(site: Site, visit: Visit) -> Page:
    return Page(template="home.html", values={"view": browse.home(site.registry, visit.who)})


def show_search(site: Site, visit: Visit) -> Page:
    """What was searched for may also be a reference that somebody pasted."""
    text = visit.query.get("q", "").strip()
    wanted = text.removeprefix("library://").partition("?")[0]
    name, colon, tag = wanted.partition(":")
    hits, problem = Hits(images=(), containers=(), collections=()), ""
    if text:
        try:
            hits = search(site.registry, visit.who, name or wanted)
        except BadForm as exc:
            problem = exc.message
    images = [hit for hit in hits.images if not colon or tag in hit.tags] or hits.images
    values = {"text": text, "hits": hits, "images": images, "problem": problem}
    return Page(template="search.html", values=values)


def show_collections(site: Site, visit: Visit) -> Page:
    return _collections(site, visit)


def _collections(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    page = visit.page_number()
    lines, more = browse.list_collections(site.registry, visit.who, page=page)
    values = {
        "lines": lines,
        "more": more,
        "page": page,
        "entities": browse.own_entities(site.registry, visit.who),
        "problem": problem,
        "form": visit.form,
        "entity": None,
    }
    return Page(template="collections.html", values=values, status=status)


def show_entity(site: Site, visit: Visit) -> Page:
    name, page = fold_name(visit.params["entity"]), visit.page_number()
    lines, more = browse.list_collections(site.registry, visit.who, entity=name, page=page)
    if not lines:
        # One's own entity is shown even while nothing is in it.
        places.get_entity(site.registry, visit.who, name)
    own = browse.own_entities(site.registry, visit.who)
    values = {
        "lines": lines,
        "more": more,
        "page": page,
        "entity": name,
        "entities": [name] if name in own else [],
        "form": Form(),
    }
    return Page(template="collections.html", values=values)


def make_collection(site: Site, visit: Visit) -> Page | Redirect:
    entity, name = visit.said("entity").lower(), visit.said("name")
    try:
        place = places.make_collection(
            site.registry,
            visit.who,
            entity=fold_name(entity),
            name=name,
            private=visit.said("private") == "1",
            description=visit.said("description"),
        )
    except (BadForm, NotFound) as exc:
        return _collections(site, visit, problem=exc.message, status=400)
    if place.entity is None or place.collection is None:
        raise NotFound
    return Redirect(path=collection_path(place.entity.name, place.collection.name), notice="collection-made")
