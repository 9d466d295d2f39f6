"""Owns users and their tokens: making, listing, changing, revoking."""

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection

from gateway.contract import parse_name
from gateway.errors import BadForm, Conflict, Forbidden, NotFound, Unauthorized
from registry_core import policy
from registry_core.credentials import (
    check_new_password,
    digest,
    hash_password,
    new_token,
    password_matches,
    token_hint,
)
from registry_core.model import Token, User
from registry_core.policy import Actor, Scope
from registry_core.registry import Registry
from registry_core.repo import accounts, catalog, journal

DAY_S: Final = 86_400
MOST_DAYS: Final = 36_500
type ScopeName = Literal["pull", "push", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """``secret`` is shown once and stored nowhere."""

    id: int
    secret: str
    scope: str
    expires_at: int | None


def add_user(
    registry: Registry,
    *,
    name: str,
    password: str | None,
    admin: bool = False,
    robot: bool = False,
    email: str = "",
    real_name: str = "",
    by: str,
) -> User:
    """A new account and its entity. A robot has no password and cannot sign in.

    Raises: BadForm, Conflict.
    """
    name = parse_name(name, "user")
    hashed = hash_password(check_new_password(password)) if password is not None else ""
    with registry.database.write() as db:
        if accounts.user_by_name(db, name) is not None:
            raise Conflict(f"There is a user '{name}' already.")
        user_id = accounts.add_user(
            db,
            name=name,
            password=hashed,
            admin=admin,
            robot=robot,
            disabled=False,
            email=email[:320],
            real_name=real_name[:256],
            created_at=registry.now,
        )
        own_entity(registry, db, user_id=user_id, name=name)
        journal.add_line(
            db, at=registry.now, actor=by, action="user.add", what=name, detail="admin" if admin else ""
        )
        made = accounts.user_by_id(db, user_id)
    assert made is not None  # noqa: S101 – just inserted
    return made


def own_entity(registry: Registry, db: Connection, *, user_id: int, name: str) -> None:
    """Make the entity of the same name, or take it over if nobody owns it."""
    entity = catalog.place_by_names(db, None, name).entity
    if entity is None:
        catalog.add_entity(
            db,
            name=name,
            owner_id=user_id,
            description="",
            default_private=registry.settings.registry.default_private,
            quota_bytes=0,
            created_by=name,
            created_at=registry.now,
            updated_at=registry.now,
        )
    elif entity.owner_id is None:
        catalog.change_entity(db, entity.id, owner_id=user_id)


def all_users(registry: Registry) -> list[User]:
    """Every account, by name."""
    with registry.database.read() as db:
        return accounts.all_users(db)


def find_user(registry: Registry, name: str) -> User:
    """Raises: NotFound."""
    with registry.database.read() as db:
        user = accounts.user_by_name(db, name.strip().lower())
    if user is None:
        raise NotFound(f"There is no user '{name}'.")
    return user


def set_password(registry: Registry, *, name: str, password: str, by: str) -> None:
    """Give a user a new password and end all of their sessions. Raises: NotFound, BadForm."""
    user = find_user(registry, name)
    hashed = hash_password(check_new_password(password))
    with registry.database.write() as db:
        accounts.change_user(db, user.id, password=hashed)
        accounts.delete_sessions(db, user_id=user.id)
        journal.add_line(db, at=registry.now, actor=by, action="user.password", what=user.name)


def change_password(registry: Registry, actor: Actor, *, old: str, new: str) -> None:
    """Change one's own password; other sessions end. Raises: Unauthorized, BadForm, Forbidden."""
    if actor.session_id is None:
        raise Forbidden("A password is changed in the browser.")
    with registry.database.read() as db:
        user = accounts.user_by_id(db, actor.user_id)
    if user is None or not password_matches(user.password, old[:1024]):
        raise Unauthorized("The old password is wrong.")
    hashed = hash_password(check_new_password(new))
    with registry.database.write() as db:
        accounts.change_user(db, actor.user_id, password=hashed)
        accounts.delete_sessions(db, user_id=actor.user_id, but=actor.session_id)
        journal.add_line(db, at=registry.now, actor=actor.name, action="user.password", what=actor.name)


def change_user(
    registry: Registry, *, name: str, admin: bool | None = None, disabled: bool | None = None, by: str
) -> None:
    """Make or unmake an administrator, disable or enable an account. Raises: NotFound."""
    user = find_user(registry, name)
    columns = {k: v for k, v in (("admin", admin), ("disabled", disabled)) if v is not None}
    if not columns:
        return
    with registry.database.write() as db:
        accounts.change_user(db, user.id, **columns)
        if disabled:
            accounts.delete_sessions(db, user_id=user.id)
        journal.add_line(
            db, at=registry.now, actor=by, action="user.change", what=user.name, detail=str(columns)
        )
    registry.actors.clear()


def remove_user(registry: Registry, *, name: str, by: str) -> None:
    """Delete an account with its tokens. Its entity and images stay. Raises: NotFound."""
    user = find_user(registry, name)
    with registry.database.write() as db:
        accounts.delete_user(db, user.id)
        journal.add_line(db, at=registry.now, actor=by, action="user.remove", what=user.name)
    registry.actors.clear()


def create_token(
    registry: Registry,
    *,
    user: User,
    scope: str,
    days: float | None,
    label: str = "",
    by: str,
) -> NewToken:
    """A token for ``user``. Raises: BadForm."""
    if scope.upper() not in Scope.__members__:
        raise BadForm("The scope of a token is pull, push or admin.")
    if days is not None and not 0 < days <= MOST_DAYS:
        raise BadForm("A token expires after some days, at most 36,500.")
    secret = new_token()
    expires_at = None if days is None else registry.now + int(days * DAY_S)
    with registry.database.write() as db:
        token_id = accounts.add_token(
            db,
            user_id=user.id,
            label=label.strip()[:128],
            scope=scope.lower(),
            hash=digest(secret),
            hint=token_hint(secret),
            created_at=registry.now,
            expires_at=expires_at,
        )
        journal.add_line(
            db, at=registry.now, actor=by, action="token.create", what=f"{user.name}/{token_id}", detail=scope
        )
    return NewToken(id=token_id, secret=secret, scope=scope.lower(), expires_at=expires_at)


def create_own_token(
    registry: Registry, actor: Actor | None, *, scope: str, days: float | None, label: str
) -> NewToken:
    """A token for oneself, of no more than one's own scope. Raises: Unauthorized, Forbidden, BadForm."""
    actor = policy.require_user(actor)
    if actor.scope < Scope.ADMIN:
        raise Forbidden("Tokens are made in the browser, or with a token of scope 'admin'.")
    return create_token(
        registry, user=find_user(registry, actor.name), scope=scope, days=days, label=label, by=actor.name
    )


def own_tokens(registry: Registry, actor: Actor | None) -> list[Token]:
    """One's own tokens. Raises: Unauthorized."""
    actor = policy.require_user(actor)
    with registry.database.read() as db:
        return accounts.tokens_of(db, actor.user_id)


def tokens_of(registry: Registry, name: str) -> list[Token]:
    """A user's tokens. Raises: NotFound."""
    user = find_user(registry, name)
    with registry.database.read() as db:
        return accounts.tokens_of(db, user.id)


def revoke_token(registry: Registry, token_id: int, *, by: str, user_id: int | None = None) -> None:
    """End a token (of that user, if one is named). Raises: NotFound."""
    with registry.database.write() as db:
        if not accounts.delete_token(db, token_id, user_id=user_id):
            raise NotFound(f"There is no token {token_id}.")
        journal.add_line(db, at=registry.now, actor=by, action="token.revoke", what=str(token_id))
    registry.actors.clear()


def revoke_own_token(registry: Registry, actor: Actor | None, token_id: int) -> None:
    """End one of one's own tokens. Raises: Unauthorized, Forbidden, NotFound."""
    actor = policy.require_user(actor)
    if actor.scope < Scope.ADMIN:
        raise Forbidden("Tokens are revoked in the browser, or with a token of scope 'admin'.")
    revoke_token(registry, token_id, by=actor.name, user_id=actor.user_id)
