"""Owns accounts that prove themselves elsewhere: who they are here, and the sign-in by a forward-auth proxy."""

import hmac
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection

from gateway.contract import container_name_of, parse_name
from gateway.errors import BadForm, Conflict, Forbidden, NotFound
from registry_core.model import User
from registry_core.names import DEFAULT_ENTITY
from registry_core.registry import Registry
from registry_core.repo import accounts, catalog, journal
from registry_core.service import identity
from registry_core.service.accounts import own_entity
from registry_core.service.identity import SignedIn

SECRET_HEADER: Final = "x-sign-in-secret"  # noqa: S105 – a header's name
_PROXY: Final = "forward-auth proxy"


def sign_in_by_header(registry: Registry, headers: Mapping[str, str], *, address: str) -> SignedIn:
    """Begin a session for the user whom the proxy names. The proxy is the authority: it may name local users.

    Raises: NotFound (not set up), Forbidden (not from the proxy, or disabled), BadForm.
    """
    settings = registry.settings.registry
    if not settings.sign_in_header or settings.sign_in_secret_file is None:
        raise NotFound
    expected = settings.sign_in_secret_file.read_text().strip()
    if not expected or not hmac.compare_digest(
        headers.get(SECRET_HEADER, "").encode("utf-8", "replace"), expected.encode()
    ):
        raise Forbidden("This sign-in works only through the proxy that was set up for it.")
    said = headers.get(settings.sign_in_header.lower(), "").strip()
    if not said:
        raise Forbidden("The proxy named no user.")
    # Taken as it is, never repaired: accounts that exist may be named, and 'root!' or 'root.sif' is not root.
    name = parse_name(said.partition("@")[0], "user")
    with registry.database.write() as db:
        user = accounts.user_by_name(db, name) or _make_user(registry, db, name, by=_PROXY)
    return identity.begin_session(registry, allowed(user), address=address, how=_PROXY)


def user_of_identity(
    registry: Registry, *, issuer: str, subject: str, name: str, email: str = "", real_name: str = ""
) -> User:
    """The account that belongs to somebody at a provider, made at their first sign-in.

    Raises: Conflict when the name belongs to another account here, Forbidden, BadForm.
    """
    with registry.database.write() as db:
        user = accounts.user_by_identity(db, issuer=issuer, subject=subject)
        if user is None:
            name = account_name(name)
            # The default entity is nobody's: it decides what everybody gets who pulls by a short reference.
            if (
                name == DEFAULT_ENTITY
                or accounts.user_by_name(db, name)
                or catalog.place_by_names(db, None, name).entity
            ):
                raise Conflict(f"The name '{name}' is taken here. Ask the administrator for another account.")
            user = _make_user(registry, db, name, by=issuer, email=email, real_name=real_name)
            accounts.add_identity(db, user_id=user.id, issuer=issuer, subject=subject, now=registry.now)
    return allowed(user)


def account_name(said: str) -> str:
    """A name of ours for what others call somebody: ``Jane.Doe@example.org`` is jane.doe. Raises: BadForm."""
    local = said.partition("@")[0]
    if not local.strip():
        raise BadForm("The account has no name.")
    return parse_name(container_name_of(local), "user")


def allowed(user: User) -> User:
    """Raises: Forbidden for an account that is disabled, or is no person's."""
    if user.disabled or user.robot:
        raise Forbidden("This account may not sign in. Ask the administrator.")
    return user


def _make_user(
    registry: Registry, db: Connection, name: str, *, by: str, email: str = "", real_name: str = ""
) -> User:
    user_id = accounts.add_user(
        db,
        name=name,
        password="",
        admin=False,
        robot=False,
        disabled=False,
        email=email[:320],
        real_name=real_name[:256],
        created_at=registry.now,
    )
    own_entity(registry, db, user_id=user_id, name=name)
    journal.add_line(db, at=registry.now, actor=by[:128], action="user.add", what=name)
    made = accounts.user_by_id(db, user_id)
    assert made is not None  # noqa: S101 – just inserted
    return made
