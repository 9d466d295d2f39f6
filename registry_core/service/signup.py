"""Owns making one's own account, where the settings leave the registry open to everybody."""

from gateway.contract import parse_name
from gateway.errors import Conflict, NotFound
from registry_core.model import User
from registry_core.registry import Registry
from registry_core.repo import catalog
from registry_core.service import accounts, identity


def sign_up(registry: Registry, *, name: str, password: str, email: str, address: str) -> User:
    """A new account. Raises: NotFound (accounts are closed), BadForm, Conflict, TooManyRequests."""
    if registry.settings.registry.accounts != "open":
        raise NotFound
    name = parse_name(name, "user")
    identity.check_pause(registry, name=name, address=address)
    with registry.database.read() as db:
        taken = catalog.place_by_names(db, None, name).entity is not None
    if taken:
        # An entity outlives its owner's account; a stranger must not inherit it.
        raise Conflict(f"The name '{name}' is taken.")
    # Each account counts as a failed attempt of its address, so that one address cannot make them by the thousand.
    identity.note_failure(registry, name=f"sign-up:{name}", address=address)
    return accounts.add_user(registry, name=name, password=password, email=email, by=name)
