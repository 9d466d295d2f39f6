"""Owns the calls of a library push, in the order of real clients, against a core in process."""

import hashlib
from dataclasses import dataclass

from tests.support.core import Core, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The ids that a push used, and whether bytes had to move."""

    container: str
    image: str
    sent: bool


def find_or_make(core: Core, what: str, path: str, body: dict[str, object], *, by: str) -> Reply:
    """GET, and POST only after a 404: as clients do."""
    found = core.call("GET", f"/v1/{what}/{path}", by=by)
    return core.call("POST", f"/v1/{what}", body, by=by) if found.status == 404 else found


def make_container(core: Core, path: str, *, by: str, private: bool = False) -> str:
    """Entity, collection and container; the container's id."""
    entity, collection, container = path.split("/")
    first = find_or_make(core, "entities", entity, {"name": entity}, by=by).data["id"]
    second = find_or_make(
        core,
        "collections",
        f"{entity}/{collection}",
        {"name": collection, "entity": first, "private": private},
        by=by,
    ).data["id"]
    return str(
        find_or_make(core, "containers", path, {"name": container, "collection": second}, by=by).data["id"]
    )


def push(
    core: Core,
    path: str,
    content: bytes,
    *,
    by: str,
    tag: str = "latest",
    arch: str = "amd64",
    private: bool = False,
) -> Pushed:
    """A whole push in one piece. Every call must succeed."""
    container = make_container(core, path, by=by, private=private)
    digest = hashlib.sha256(content).hexdigest()
    found = core.call("GET", f"/v1/images/{path}:sha256.{digest}?arch={arch}", by=by)
    if found.status == 404:
        body = {"hash": f"sha256.{digest}", "container": container, "description": "No description"}
        found = core.call("POST", "/v1/images", body, by=by)
    image = found.data["id"]
    sent = not found.data["uploaded"]
    if sent:
        offer = {"filesize": len(content), "sha256sum": digest, "md5sum": "0" * 32}
        url = core.call("POST", f"/v2/imagefile/{image}", offer, by=by).data["uploadURL"]
        assert core.put(url, content).status == 200
        assert core.call("PUT", f"/v2/imagefile/{image}/_complete", {}, by=by).status == 200
    tagged = core.call("POST", f"/v2/tags/{container}", {"Arch": arch, "Tag": tag, "ImageID": image}, by=by)
    assert tagged.status == 200, tagged.body
    return Pushed(container=container, image=image, sent=sent)
