"""Owns the page of one image: what it is, how to pull it, its tags, and the forms for those who may change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.routing import Route

from gateway.errors import BadForm, ClientError, Unauthorized
from registry_core.names import ImageRef, parse_ref
from registry_core.paths import container_path, image_path
from registry_core.registry import Registry
from registry_core.routes.pages_frame import Page, Redirect, Site, Visit
from registry_core.service import browse, removal, stewardship, tagging
from registry_core.service.browse import ImageView

_DEFAULT_ARCH: Final = "amd64"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullCommands:
    """What people copy. ``sign_in`` tells that the command before needs a token first."""

    apptainer: str
    singularity: str
    curl: str
    download: str
    sign_in: bool


def routes(site: Site) -> Sequence[Route]:
    """The routes."""
    path = "/collections/{entity}/{collection}/{container}/{what}"
    return (site.route(path, get=show_image, post=change_image),)


def pull_commands(registry: Registry, view: ImageView) -> PullCommands:
    """The commands that fetch this image: by its tag, or by its digest where no tag was asked for."""
    base = registry.settings.public_url
    place = f"{view.entity.name}/{view.collection.name}/{view.container.name}"
    what = view.tag or f"sha256.{view.image.sha256}"
    private = view.collection.private or not registry.anonymous_pull
    arch = "" if view.image.arch == _DEFAULT_ARCH or not view.tag else f"--arch {view.image.arch} "
    query = f"?arch={view.image.arch}" if arch else ""
    # With --library a client needs no set-up, but it also sends no token.
    library = "" if private else f"--library {base} "
    download = f"/v1/imagefile/{place}:{what}{query}"
    header = '-H "Authorization: Bearer $TOKEN" ' if private else ""
    url = f"'{base}{download}'" if query else f"{base}{download}"
    return PullCommands(
        apptainer=f"apptainer pull {arch}{library}library://{place}:{what}",
        singularity=f"singularity pull {arch}{library}library://{place}:{what}",
        curl=f"curl -fLJO {header}{url}",
        download=download,
        sign_in=private,
    )


def _ref(visit: Visit) -> ImageRef:
    parts = visit.params
    return parse_ref(f"{parts['entity']}/{parts['collection']}/{parts['container']}:{parts['what']}")


def show_image(site: Site, visit: Visit) -> Page:
    return _image(site, visit)


def _image(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    view = browse.image(site.registry, visit.who, _ref(visit), arch=visit.arch)
    values = {"view": view, "pull": pull_commands(site.registry, view), "problem": problem}
    return Page(template="image.html", values=values, status=status)


def change_image(site: Site, visit: Visit) -> Page | Redirect:
    try:
        return _change_image(site, visit)
    except Unauthorized:
        raise
    except ClientError as exc:
        return _image(site, visit, problem=exc.message, status=exc.status)


def _change_image(site: Site, visit: Visit) -> Redirect:
    registry, who = site.registry, visit.who
    view = browse.image(registry, who, _ref(visit), arch=visit.arch)
    names = (view.entity.name, view.collection.name, view.container.name)
    here = image_path(*names, view.image.sha256)
    tag = visit.said("tag")
    match visit.said("do"):
        case "tag":
            tagging.set_tag(registry, who, view.container.id, tag=tag, image_id=view.image.id)
            return Redirect(path=here, notice="tagged")
        case "untag":
            ref = ImageRef(entity=names[0], collection=names[1], container=names[2], tag=tag)
            removal.delete_image(registry, who, ref, arch=visit.said("arch"))
            if len(view.tags) > 1:
                return Redirect(path=here, notice="untagged")
            return Redirect(path=container_path(*names), notice="image-deleted")
        case "freeze" | "unfreeze" as do:
            stewardship.freeze_tag(registry, who, *names, tag=tag, frozen=do == "freeze")
            return Redirect(path=here, notice="frozen" if do == "freeze" else "unfrozen")
        case "delete":
            if visit.said("confirm") != "yes":
                raise BadForm("Tick the box to delete the image. Nothing was deleted.")
            ref = ImageRef(entity=names[0], collection=names[1], container=names[2], sha256=view.image.sha256)
            removal.delete_image(registry, who, ref)
            return Redirect(path=container_path(*names), notice="image-deleted")
        case other:
            raise BadForm(f"This form cannot do '{other[:40]}'.")
