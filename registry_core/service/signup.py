"""Owns making one's own account, where the settings leave the registry open to everybody."""

from gateway.contract import parse_name
from gateway.errors import Conflict, NotFound
from registry_core.addresses import counted_as
from registry_core.model import User
from registry_core.names import DEFAULT_ENTITY
from registry_core.registry import Registry
from registry_core.repo import catalog
from registry_core.service import accounts, identity


def sign_up(registry: Registry, *, name: str, password: str, email: str, address: str) -> User:
    """A new account. Raises: NotFound (accounts are closed), BadForm, Conflict, TooManyRequests."""
    if registry.settings.registry.accounts != "open":
        raise NotFound
    name = parse_name(name, "user")
    # Counted apart from failed sign-ins: a class that signs up from one address must not lock itself out.
    counted = {"name": f"sign-up {name}", "address": f"sign-up {counted_as(address)}"}
    identity.check_pause(registry, **counted)
    with registry.database.read() as db:
        taken = name == DEFAULT_ENTITY or catalog.place_by_names(db, None, name).entity is not None
    if taken:
        # An entity outlives its owner's account; a stranger must not inherit it. And whoever had the default one
        # would decide what everybody gets who pulls by a short reference.
        raise Conflict(f"The name '{name}' is taken.")
    made = accounts.add_user(registry, name=name, password=password, email=email, by=name)
    identity.note_failure(registry, **counted)  # so that one address cannot make them by the thousand
    return made
