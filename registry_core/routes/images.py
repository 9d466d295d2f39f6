"""Owns the paths of images, their files and their tags in the library API."""

from collections.abc import Sequence
from typing import Any, Final

from anyio import CapacityLimiter
from starlette.routing import Route

from gateway.errors import BadForm
from registry_core import wire
from registry_core.names import parse_hash, parse_ref
from registry_core.registry import Registry
from registry_core.routes.call import Answer, Call, api_route, data
from registry_core.routes.library import described
from registry_core.service import places, pull, push, removal, tagging

# Threads of their own: what came to S3 directly is read back here, and nothing else may wait for that.
_FINISHING: Final = 8


def routes(registry: Registry) -> Sequence[Route]:
    """The routes of images; the ones asked most often come first."""
    single = "/v2/imagefile/{image_id}"
    finishing = CapacityLimiter(_FINISHING)
    return (
        api_route(
            registry, "/v1/images/{ref:path}", {"GET": show_image, "DELETE": delete_image}, at_once=True
        ),
        # A direct link is asked of S3; our own is only computed.
        api_route(
            registry,
            "/v1/imagefile/{ref:path}",
            {"GET": redirect_to_bytes},
            at_once=not registry.settings.storage.s3.direct,
        ),
        api_route(registry, "/v1/images", {"POST": add_image}),
        api_route(registry, "/v2/tags/{container_id}", {"GET": show_arch_tags, "POST": set_arch_tag}),
        api_route(registry, "/v1/tags/{container_id}", {"GET": show_tags, "POST": set_tag}),
        api_route(registry, single, {"POST": begin_single}),
        api_route(registry, f"{single}/_complete", {"PUT": complete_single}, limiter=finishing),
        api_route(registry, f"{single}/_multipart", {"POST": begin_parts, "PUT": sign_part}),
        api_route(registry, f"{single}/_multipart_complete", {"PUT": complete_parts}, limiter=finishing),
        api_route(registry, f"{single}/_multipart_abort", {"PUT": abort_parts}),
    )


def show_image(registry: Registry, call: Call) -> Answer:
    found = pull.find_image(registry, call.actor(registry), parse_ref(call.params["ref"]), arch=call.arch)
    return data(wire.found_json(found))


def delete_image(registry: Registry, call: Call) -> Answer:
    removal.delete_image(registry, call.actor(registry), parse_ref(call.params["ref"]), arch=call.arch)
    return data({})


def redirect_to_bytes(registry: Registry, call: Call) -> Answer:
    """303, never 302: only then do clients download in parallel and keep their token from other hosts."""
    ref = parse_ref(call.params["ref"])
    found = pull.find_image(registry, call.actor(registry), ref, arch=call.arch, uploaded_only=True)
    location = pull.link_to_bytes(registry, found, method=call.method)
    return Answer(status=303, headers={"location": location})


def add_image(registry: Registry, call: Call) -> Answer:
    place, image = push.make_image(
        registry,
        call.actor(registry),
        container_id=places.parse_id(call.text("container")),
        sha256=parse_hash(call.text("hash")),
        description=described(call),
    )
    return data(wire.image_json(place, image))


def show_arch_tags(registry: Registry, call: Call) -> Answer:
    tags = tagging.tags_by_arch(registry, call.actor(registry), call.id_param("container_id"))
    return data(wire.arch_tags(tags))


def show_tags(registry: Registry, call: Call) -> Answer:
    tags = tagging.tags_by_arch(registry, call.actor(registry), call.id_param("container_id"))
    return data(wire.flat_tags(tags))


def set_arch_tag(registry: Registry, call: Call) -> Answer:
    return _set_tag(registry, call, arch=call.text("arch"))


def set_tag(registry: Registry, call: Call) -> Answer:
    return _set_tag(registry, call, arch="")


def _set_tag(registry: Registry, call: Call, *, arch: str) -> Answer:
    tagging.set_tag(
        registry,
        call.actor(registry),
        call.id_param("container_id"),
        tag=call.text("tag"),
        image_id=places.parse_id(call.text("imageid")),
        arch=arch,
    )
    return data({})


def begin_single(registry: Registry, call: Call) -> Answer:
    url = push.begin_single(
        registry,
        call.actor(registry),
        call.id_param("image_id"),
        size=call.number("filesize"),
        sha256=call.text("sha256sum"),
    )
    return data({"uploadURL": url})


def complete_single(registry: Registry, call: Call) -> Answer:
    return _finished(push.finish(registry, call.actor(registry), call.id_param("image_id")))


def begin_parts(registry: Registry, call: Call) -> Answer:
    parts = push.begin_parts(
        registry, call.actor(registry), call.id_param("image_id"), size=call.number("filesize")
    )
    return data(
        {
            "uploadID": parts.upload_id,
            "totalParts": parts.total,
            "partSize": parts.size,
            # Text, not a truth value; with it, clients tell the digest of each part.
            "options": {"s3compliant": "true"},
        }
    )


def sign_part(registry: Registry, call: Call) -> Answer:
    url = push.part_url(
        registry,
        call.actor(registry),
        call.id_param("image_id"),
        upload_id=call.text("uploadid"),
        number=call.number("partnumber"),
        size=call.number("partsize"),
        sha256=call.text("sha256sum"),
    )
    return data({"presignedURL": url})


def complete_parts(registry: Registry, call: Call) -> Answer:
    listed = call.json.get("completedparts")
    if not isinstance(listed, list):
        raise BadForm("The field 'completedParts' must list the parts.")
    etags = {_number(part): str(part.get("token") or "") for part in listed if isinstance(part, dict)}
    finished = push.finish(
        registry,
        call.actor(registry),
        call.id_param("image_id"),
        upload_id=call.text("uploadid") or "-",
        etags=etags,
    )
    return _finished(finished)


def _number(part: dict[str, Any]) -> int:
    number = part.get("partNumber")
    if not isinstance(number, int):
        raise BadForm("Each part must have a 'partNumber', a whole number.")
    return number


def abort_parts(registry: Registry, call: Call) -> Answer:
    push.abort(registry, call.actor(registry), call.id_param("image_id"), upload_id=call.text("uploadid"))
    return data({})


def _finished(finished: push.Finished) -> Answer:
    quota = {"quotaTotal": finished.usage.total, "quotaUsage": finished.usage.used}
    return data({"quota": quota, "containerUrl": finished.container_path})
