"""Owns what clients ask first: where things are, which protocol is spoken, and whether a token is good."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from starlette.routing import Route

from gateway.errors import NotFound, Unauthorized
from registry_core import policy
from registry_core.errors import UnknownToken
from registry_core.registry import Registry
from registry_core.repo import accounts
from registry_core.routes.call import Answer, Call, api_route, data

# From 2.0.0-alpha.2 on, clients tag by architecture. Plain semver: a leading "v" sends them back to the v1 protocol.
API_VERSION: Final = "2.0.0-alpha.2"


def routes(registry: Registry) -> Sequence[Route]:
    """The discovery routes."""
    return (
        api_route(registry, "/version", {"GET": show_version}),
        api_route(registry, "/assets/config/config.prod.json", {"GET": show_config}),
        api_route(registry, "/v1", {"GET": show_version}),
        api_route(registry, "/v1/", {"GET": show_version}),
        api_route(registry, "/v1/token-status", {"GET": show_token_status}),
        api_route(registry, "/v1/rbac/users/current", {"GET": show_user}),
        api_route(registry, "/v1/oci-redirect", {"GET": no_oci}),
        api_route(registry, "/pks/lookup", {"GET": no_keys}),
    )


def show_version(_registry: Registry, _call: Call) -> Answer:
    """Asked two or three times in every push."""
    return data({"version": f"v{_own_version()}", "apiVersion": API_VERSION})


def _own_version() -> str:
    try:
        return version("sregistry-gateway")
    except PackageNotFoundError:
        return "0.0.0"


def show_config(registry: Registry, _call: Call) -> Answer:
    """The services behind this name; fetched by every command of real clients. It has no envelope."""
    here = {"uri": registry.settings.public_url}
    keys = registry.settings.registry.keyserver or registry.settings.public_url
    body = {"libraryAPI": here, "tokenAPI": here, "keystoreAPI": {"uri": keys}}
    return Answer(body=body, headers={"cache-control": "public, max-age=300"})


def show_token_status(registry: Registry, call: Call) -> Answer:
    """Good tokens get 200. Bad ones get 404, which is what clients show as "Invalid Credentials"."""
    try:
        actor = call.actor(registry)
    except Unauthorized as exc:
        raise UnknownToken(exc.message) from exc
    if actor is None:
        raise NotFound("Send a token to have it checked.")
    return data({"username": actor.name, "scope": actor.scope.name.lower()})


def show_user(registry: Registry, call: Call) -> Answer:
    """Who am I. It has no envelope."""
    actor = policy.require_user(call.actor(registry))
    with registry.database.read() as db:
        user = accounts.user_by_id(db, actor.user_id)
    return Answer(
        body={
            "username": actor.name,
            "email": user.email if user else "",
            "realname": user.real_name if user else "",
            "oidc_user_meta": {"secret": ""},
        }
    )


def no_oci(_registry: Registry, _call: Call) -> Answer:
    """Anything but 200 lets clients speak the library protocol."""
    raise NotFound("This registry has no OCI side.")


def no_keys(_registry: Registry, _call: Call) -> Answer:
    """Keys are kept by the key server that the discovery names."""
    raise NotFound("This registry keeps no keys.")
