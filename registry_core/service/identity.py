"""Owns who is asking: tokens, browser sessions, signing in and out, and slowing down those who guess."""

from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from sqlalchemy import Connection

from gateway.errors import Forbidden, TooManyRequests, Unauthorized
from registry_core.addresses import counted_as
from registry_core.credentials import digest, new_secret, password_matches
from registry_core.model import Session, Token, User
from registry_core.policy import CHALLENGE, Actor, Scope
from registry_core.registry import Registry
from registry_core.repo import accounts, journal

SESSION_COOKIE: Final = "registry_session"
_TOUCH_AFTER_S: Final = 60
_MAX_CREDENTIAL_CHARS: Final = 4096

# So many failures are free; after that each one doubles the pause, up to the limit. An account's pause is short,
# because anybody can cause it.
_FREE_BY_NAME: Final = 5
_FREE_BY_ADDRESS: Final = 20
_LONGEST_BY_NAME_S: Final = 60
_LONGEST_BY_ADDRESS_S: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A new session: ``cookie`` goes to the browser and is stored nowhere."""

    actor: Actor
    cookie: str
    max_age_s: int


def authenticate(registry: Registry, *, authorization: str, cookie: str) -> Actor | None:
    """Who sent these headers; None = nobody in particular.

    Raises: Unauthorized for a token that is not valid. An old cookie is only ignored.
    """
    if authorization.strip():
        return actor_of_token(registry, bearer_token(authorization))
    return actor_of_cookie(registry, cookie) if cookie else None


def bearer_token(authorization: str) -> str:
    """The token of the header; old clients write ``BEARER``. Raises: Unauthorized."""
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MAX_CREDENTIAL_CHARS:
        raise Unauthorized("Send 'Authorization: Bearer TOKEN'.", headers=CHALLENGE)
    return token


def actor_of_token(registry: Registry, token: str) -> Actor:
    """Whose token it is. Raises: Unauthorized."""
    hashed = digest(token)
    remembered = registry.actors.get(hashed)
    if remembered is not None:
        return remembered
    now = registry.now
    with registry.database.read() as db:
        found = accounts.token_owner(db, hashed)
    if found is None:
        raise _bad_token("This token is not known, or was revoked.")
    row, user = found
    if row.expires_at is not None and row.expires_at <= now:
        raise _bad_token("This token has expired. Make a new one.")
    if user.disabled:
        raise _bad_token("This account is disabled.")
    if row.last_used_at is None or row.last_used_at <= now - _TOUCH_AFTER_S:
        with registry.database.write() as db:
            accounts.touch_token(db, row.id, now)
    actor = _token_actor(row, user)
    registry.actors.put(hashed, actor)
    return actor


def _bad_token(message: str) -> Unauthorized:
    return Unauthorized(
        message, headers=(("www-authenticate", 'Bearer realm="registry", error="invalid_token"'),)
    )


def _token_actor(token: Token, user: User) -> Actor:
    return Actor(
        user_id=user.id, name=user.name, admin=user.admin, scope=Scope[token.scope.upper()], token_id=token.id
    )


def actor_of_cookie(registry: Registry, header: str) -> Actor | None:
    """Whose session the Cookie header names, if it still runs."""
    secret = session_cookie(header)
    if not secret:
        return None
    with registry.database.read() as db:
        found = accounts.session_owner(db, digest(secret))
    if found is None or found[0].expires_at <= registry.now or found[1].disabled:
        return None
    return _session_actor(*found)


def session_cookie(header: str) -> str:
    """Our cookie in a Cookie header, or ""."""
    try:
        jar: SimpleCookie = SimpleCookie(header)
    except CookieError:
        return ""
    return jar[SESSION_COOKIE].value[:_MAX_CREDENTIAL_CHARS] if SESSION_COOKIE in jar else ""


def _session_actor(session: Session, user: User) -> Actor:
    return Actor(
        user_id=user.id,
        name=user.name,
        admin=user.admin,
        scope=Scope.ADMIN,
        session_id=session.id,
        csrf=session.csrf,
    )


def credential_of(actor: Actor) -> str:
    """The token or session, named so that it can be looked at again later; not secret."""
    if actor.token_id is not None:
        return f"token:{actor.token_id}"
    return f"session:{actor.session_id}" if actor.session_id is not None else ""


def actor_of_credential(registry: Registry, db: Connection, credential: str) -> Actor | None:
    """Whose it is, if it is still good now."""
    kind, _, number = credential.partition(":")
    if not number.isdecimal():
        return None
    if kind == "token":
        token = accounts.token_owner_by_id(db, int(number))
        if token is None or token[1].disabled:
            return None
        expires = token[0].expires_at
        return None if expires is not None and expires <= registry.now else _token_actor(*token)
    session = accounts.session_owner_by_id(db, int(number))
    if session is None or session[1].disabled or session[0].expires_at <= registry.now:
        return None
    return _session_actor(*session)


def check_csrf(actor: Actor | None, csrf_token: str) -> None:
    """Refuse what a browser session sends without its CSRF token. Tokens need none. Raises: Forbidden."""
    if actor is None or actor.session_id is None:
        return
    if not csrf_token or csrf_token != actor.csrf:
        raise Forbidden("The form is too old, or came from another site. Load the page again and repeat.")


def sign_in(registry: Registry, *, name: str, password: str, address: str) -> SignedIn:
    """Begin a session. Raises: Unauthorized, TooManyRequests."""
    name = name.strip().lower()[:128]
    check_pause(registry, name=name, address=address)
    with registry.database.read() as db:
        user = accounts.user_by_name(db, name)
    stored = user.password if user is not None and not user.disabled and not user.robot else ""
    right = password_matches(stored, password[:1024])
    if user is None or not right:
        note_failure(registry, name=name, address=address)
        raise Unauthorized("The name or the password is wrong.")
    with registry.database.write() as db:
        accounts.forget_failures(db, _keys(name, address))
    return begin_session(registry, user, address=address, how="password")


def begin_session(registry: Registry, user: User, *, address: str, how: str) -> SignedIn:
    """A session for somebody who has proven who they are."""
    cookie, now = new_secret(), registry.now
    life = int(registry.settings.registry.session_s)
    columns = {
        "hash": digest(cookie),
        "user_id": user.id,
        "csrf": new_secret(),
        "address": address[:64],
        "created_at": now,
        "expires_at": now + life,
    }
    with registry.database.write() as db:
        accounts.delete_expired(db, now)
        session_id = accounts.add_session(db, **columns)
        accounts.change_user(db, user.id, last_login_at=now)
        journal.add_line(
            db, at=now, actor=user.name, action="sign-in", what=user.name, detail=how, address=address
        )
    actor = _session_actor(Session(id=session_id, **columns), user)  # type: ignore[arg-type] # as just stored
    return SignedIn(actor=actor, cookie=cookie, max_age_s=life)


def sign_out(registry: Registry, actor: Actor | None) -> None:
    """End the session."""
    if actor is not None and actor.session_id is not None:
        with registry.database.write() as db:
            accounts.delete_session(db, actor.session_id)


def check_pause(registry: Registry, *, name: str, address: str) -> None:
    """Refuse those who failed too often lately. Raises: TooManyRequests."""
    with registry.database.read() as db:
        failed = accounts.failures(db, _keys(name, address))
    wait = max((until - registry.now for _count, until in failed.values()), default=0)
    # More than any pause lasts: the clock was set back, and nobody shall wait until it has caught up.
    if 0 < wait <= _LONGEST_BY_ADDRESS_S:
        raise TooManyRequests("Too many failed attempts. Wait a moment.", retry_after_s=wait)


def note_failure(registry: Registry, *, name: str, address: str) -> None:
    """Remember a wrong password."""
    by_name, by_address = _keys(name, address)
    with registry.database.write() as db:
        _note(db, by_name, registry.now, free=_FREE_BY_NAME, longest_s=_LONGEST_BY_NAME_S)
        _note(db, by_address, registry.now, free=_FREE_BY_ADDRESS, longest_s=_LONGEST_BY_ADDRESS_S)


def _note(db: Connection, key: str, now: int, *, free: int, longest_s: int) -> None:
    count, until = accounts.failures(db, (key,)).get(key, (0, now))
    count = 1 if until < now - 3600 else count + 1
    pause = 0 if count <= free else min(longest_s, 2 ** min(count - free, 16))
    accounts.note_failure(db, key, failures=count, until=now + pause)


def _keys(name: str, address: str) -> tuple[str, str]:
    return f"user:{name}", f"address:{counted_as(address)[:64]}"
