"""Owns the pages of a collection and of a container, and the forms on them."""

from collections.abc import Sequence

from starlette.routing import Route

from gateway.errors import BadForm, ClientError, Unauthorized
from registry_core.names import fold_name
from registry_core.paths import collection_path, container_path
from registry_core.routes.pages_frame import Page, Redirect, Site, Visit
from registry_core.service import browse, removal, stewardship


def routes(site: Site) -> Sequence[Route]:
    """The routes."""
    return (
        site.route("/collections/{entity}/{collection}", get=show_collection, post=change_collection),
        site.route(
            "/collections/{entity}/{collection}/{container}", get=show_container, post=change_container
        ),
    )


def show_collection(site: Site, visit: Visit) -> Page:
    return _collection(site, visit)


def _collection(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    entity, name = fold_name(visit.params["entity"]), fold_name(visit.params["collection"])
    view = browse.collection(site.registry, visit.who, entity, name)
    values = {"view": view, "problem": problem, "roles": stewardship.ROLES}
    return Page(template="collection.html", values=values, status=status)


def change_collection(site: Site, visit: Visit) -> Page | Redirect:
    entity, name = fold_name(visit.params["entity"]), fold_name(visit.params["collection"])
    try:
        return _change_collection(site, visit, entity, name)
    except Unauthorized:
        raise
    except ClientError as exc:
        return _collection(site, visit, problem=exc.message, status=exc.status)


def _change_collection(site: Site, visit: Visit, entity: str, name: str) -> Redirect:
    registry, who, here = site.registry, visit.who, collection_path(entity, name)
    match visit.said("do"):
        case "privacy":
            private = visit.said("private") == "1"
            stewardship.change_collection(registry, who, entity, name, private=private)
            return Redirect(path=here, notice="collection-changed")
        case "describe":
            text = visit.said("description")
            stewardship.change_collection(registry, who, entity, name, description=text)
            return Redirect(path=here, notice="collection-changed")
        case "member":
            role = visit.said("role")
            stewardship.set_member(
                registry, who, entity, name, user=visit.said("user"), role=None if role == "none" else role
            )
            return Redirect(path=here, notice="member")
        case "delete":
            confirm(visit, f"{entity}/{name}")
            removal.delete_collection(registry, who, entity, name)
            return Redirect(path="/collections", notice="collection-deleted")
        case other:
            raise BadForm(f"This form cannot do '{other[:40]}'.")


def confirm(visit: Visit, name: str) -> None:
    """Raises: BadForm unless the visitor typed the name of what is to be deleted."""
    if visit.said("confirm").lower() != name:
        raise BadForm(f"Type {name} into the field to delete it. Nothing was deleted.")


def show_container(site: Site, visit: Visit) -> Page:
    return _container(site, visit)


def _names(visit: Visit) -> tuple[str, str, str]:
    entity, collection, container = (fold_name(visit.params[part]) for part in _PARTS)
    return entity, collection, container


_PARTS = ("entity", "collection", "container")


def _container(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    view = browse.container(site.registry, visit.who, *_names(visit))
    return Page(template="container.html", values={"view": view, "problem": problem}, status=status)


def change_container(site: Site, visit: Visit) -> Page | Redirect:
    try:
        return _change_container(site, visit)
    except Unauthorized:
        raise
    except ClientError as exc:
        return _container(site, visit, problem=exc.message, status=exc.status)


def _change_container(site: Site, visit: Visit) -> Redirect:
    registry, who, names = site.registry, visit.who, _names(visit)
    match visit.said("do"):
        case "settings":
            stewardship.change_container(
                registry,
                who,
                *names,
                description=visit.said("description"),
                read_only=visit.said("read_only") == "1",
            )
            return Redirect(path=container_path(*names), notice="container-changed")
        case "delete":
            confirm(visit, "/".join(names))
            removal.delete_container(registry, who, *names)
            return Redirect(path=collection_path(*names[:2]), notice="container-deleted")
        case other:
            raise BadForm(f"This form cannot do '{other[:40]}'.")
