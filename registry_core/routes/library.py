"""Owns the paths of entities, collections, containers and searching in the library API."""

from collections.abc import Sequence
from typing import Final

from starlette.routing import Route

from gateway.contract import parse_name
from gateway.errors import BadForm, NotFound
from registry_core import policy, wire
from registry_core.model import Place
from registry_core.names import parse_container_path
from registry_core.registry import Registry
from registry_core.repo import catalog, images
from registry_core.routes.call import Answer, Call, api_route, data
from registry_core.service import places, removal
from registry_core.service.search import search

# What clients write when the user said nothing.
_NO_DESCRIPTION: Final = "no description"


def routes(registry: Registry) -> Sequence[Route]:
    """The routes of places."""
    return (
        api_route(registry, "/v1/entities", {"GET": show_own_entity, "POST": add_entity}),
        api_route(registry, "/v1/entities/{name}", {"GET": show_entity}),
        api_route(registry, "/v1/collections", {"GET": list_collections, "POST": add_collection}),
        api_route(registry, "/v1/collections/{entity}", {"GET": list_collections}),
        api_route(
            registry,
            "/v1/collections/{entity}/{name}",
            {"GET": show_collection, "DELETE": delete_collection},
        ),
        api_route(registry, "/v1/containers", {"POST": add_container}),
        api_route(registry, "/v1/containers/{entity}/{collection}", {"GET": list_containers}),
        api_route(
            registry, "/v1/containers/{path:path}", {"GET": show_container, "DELETE": delete_container}
        ),
        api_route(registry, "/v1/search", {"GET": find}),
    )


def described(call: Call) -> str:
    """The description that a user gave."""
    text = call.text("description")
    return "" if text.lower() == _NO_DESCRIPTION else text


def show_own_entity(registry: Registry, call: Call) -> Answer:
    actor = policy.require_user(call.actor(registry))
    return _entity(registry, call, actor.name)


def show_entity(registry: Registry, call: Call) -> Answer:
    return _entity(registry, call, _folded(call.params["name"]))


def _folded(name: str) -> str:
    try:
        return parse_name(name, "entity")
    except BadForm as exc:
        raise NotFound(exc.message) from exc


def _entity(registry: Registry, call: Call, name: str) -> Answer:
    actor = call.actor(registry)
    entity = places.get_entity(registry, actor, name)
    visible = catalog.visible_to(actor, anonymous_pull=registry.anonymous_pull)
    with registry.database.read() as db:
        shown = [c for _e, c in catalog.visible_collections(db, visible, entity_id=entity.id)]
        used, _each = images.used_bytes(db, entity_id=entity.id)
    quota = registry.settings.registry.quota_bytes
    owns = actor is not None and (actor.admin or entity.owner_id == actor.user_id)
    return data(wire.entity_json(entity, shown, used=used if owns else 0, quota=entity.quota_bytes or quota))


def add_entity(registry: Registry, call: Call) -> Answer:
    entity = places.make_entity(
        registry, call.actor(registry), call.text("name"), description=described(call)
    )
    return data(wire.entity_json(entity))


def list_collections(registry: Registry, call: Call) -> Answer:
    actor = call.actor(registry)
    visible = catalog.visible_to(actor, anonymous_pull=registry.anonymous_pull)
    wanted = call.params.get("entity")
    with registry.database.read() as db:
        found = catalog.visible_collections(db, visible)
    shown = [pair for pair in found if wanted is None or pair[0].name == wanted.lower()]
    if wanted is not None and not shown:
        raise NotFound(f"There is no entity '{wanted[:80]}', or you may not see it.")
    return data([wire.collection_json(entity, collection) for entity, collection in shown])


def show_collection(registry: Registry, call: Call) -> Answer:
    entity, name = _folded(call.params["entity"]), _folded(call.params["name"])
    place = places.get_place(registry, call.actor(registry), entity, name)
    return _collection(registry, place)


def _collection(registry: Registry, place: Place) -> Answer:
    if place.entity is None or place.collection is None:
        raise NotFound("There is no such collection.")
    with registry.database.read() as db:
        inside = catalog.containers_in(db, place.collection.id)
        _all, each = images.used_bytes(db, entity_id=place.entity.id)
    used = each.get(place.collection.id, 0)
    return data(wire.collection_json(place.entity, place.collection, inside, used=used))


def add_collection(registry: Registry, call: Call) -> Answer:
    place = places.make_collection(
        registry,
        call.actor(registry),
        entity_id=places.parse_id(call.text("entity")),
        name=call.text("name"),
        private=call.flag("private"),
        description=described(call),
    )
    return _collection(registry, place)


def delete_collection(registry: Registry, call: Call) -> Answer:
    entity, name = _folded(call.params["entity"]), _folded(call.params["name"])
    removal.delete_collection(registry, call.actor(registry), entity, name)
    return data({})


def list_containers(registry: Registry, call: Call) -> Answer:
    entity, name = _folded(call.params["entity"]), _folded(call.params["collection"])
    place = places.get_place(registry, call.actor(registry), entity, name)
    if place.entity is None or place.collection is None:
        raise NotFound("There is no such collection.")
    with registry.database.read() as db:
        inside = catalog.containers_in(db, place.collection.id)
    return data([wire.container_json(place.entity, place.collection, one) for one in inside])


def show_container(registry: Registry, call: Call) -> Answer:
    actor = call.actor(registry)
    entity, collection, container = parse_container_path(call.params["path"])
    return _container(registry, places.get_place(registry, actor, entity, collection, container))


def _container(registry: Registry, place: Place) -> Answer:
    entity, collection, container = places.whole(place)
    with registry.database.read() as db:
        shown = images.images_in(db, container.id)
        tags: dict[str, dict[str, int]] = {}
        for tag in images.tags_in(db, container.id):
            tags.setdefault(tag.arch, {})[tag.name] = tag.image_id
    return data(wire.container_json(entity, collection, container, images=shown, tags=tags))


def add_container(registry: Registry, call: Call) -> Answer:
    place = places.make_container(
        registry,
        call.actor(registry),
        collection_id=places.parse_id(call.text("collection")),
        name=call.text("name"),
        description=described(call),
    )
    return _container(registry, place)


def delete_container(registry: Registry, call: Call) -> Answer:
    entity, collection, container = parse_container_path(call.params["path"])
    removal.delete_container(registry, call.actor(registry), entity, collection, container)
    return data({})


def find(registry: Registry, call: Call) -> Answer:
    signed = {"true": True, "1": True, "false": False}.get(call.query.get("signed", "").lower())
    hits = search(registry, call.actor(registry), call.query.get("value", ""), arch=call.arch, signed=signed)
    return data(
        {
            "entity": [],
            "collection": [wire.collection_json(entity, one) for entity, one in hits.collections],
            "container": [wire.container_json(entity, of, one) for entity, of, one in hits.containers],
            "image": [wire.hit_json(hit) for hit in hits.images],
        }
    )
