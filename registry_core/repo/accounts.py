"""Owns the queries about users, tokens, sessions and failed sign-ins."""

from typing import Any, Final, cast

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from registry_core.model import Session, Token, User
from registry_core.repo.rows import one, value, width
from registry_core.repo.schema import identities, sessions, throttles, tokens, users

_TOKEN_OWNER: Final = (
    select(*tokens.c, *users.c)
    .join_from(tokens, users, tokens.c.user_id == users.c.id)
    .where(tokens.c.hash == bindparam("hash"))
)
_SESSION_OWNER: Final = (
    select(*sessions.c, *users.c)
    .join_from(sessions, users, sessions.c.user_id == users.c.id)
    .where(sessions.c.hash == bindparam("hash"))
)


def token_owner(db: Connection, hashed: str) -> tuple[Token, User] | None:
    """The token with this hash and whose it is."""
    row = db.execute(_TOKEN_OWNER, {"hash": hashed}).first()
    return None if row is None else (value(Token, row), value(User, row, width(Token)))


def session_owner(db: Connection, hashed: str) -> tuple[Session, User] | None:
    """The session with this hash and whose it is."""
    row = db.execute(_SESSION_OWNER, {"hash": hashed}).first()
    return None if row is None else (value(Session, row), value(User, row, width(Session)))


def token_owner_by_id(db: Connection, token_id: int) -> tuple[Token, User] | None:
    """The token with this id and whose it is."""
    found = select(*tokens.c, *users.c).join_from(tokens, users, tokens.c.user_id == users.c.id)
    row = db.execute(found.where(tokens.c.id == token_id)).first()
    return None if row is None else (value(Token, row), value(User, row, width(Token)))


def session_owner_by_id(db: Connection, session_id: int) -> tuple[Session, User] | None:
    """The session with this id and whose it is."""
    found = select(*sessions.c, *users.c).join_from(sessions, users, sessions.c.user_id == users.c.id)
    row = db.execute(found.where(sessions.c.id == session_id)).first()
    return None if row is None else (value(Session, row), value(User, row, width(Session)))


def user_by_name(db: Connection, name: str) -> User | None:
    return one(User, db.execute(select(users).where(users.c.name == name)).first())


def user_by_id(db: Connection, user_id: int) -> User | None:
    return one(User, db.execute(select(users).where(users.c.id == user_id)).first())


def user_by_identity(db: Connection, *, issuer: str, subject: str) -> User | None:
    """The user to whom another sign-in service's account belongs."""
    found = (
        select(users)
        .join_from(users, identities, identities.c.user_id == users.c.id)
        .where(identities.c.issuer == issuer, identities.c.subject == subject)
    )
    return one(User, db.execute(found).first())


def add_identity(db: Connection, *, user_id: int, issuer: str, subject: str, now: int) -> None:
    db.execute(insert(identities).values(user_id=user_id, issuer=issuer, subject=subject, created_at=now))


def all_users(db: Connection) -> list[User]:
    return [value(User, row) for row in db.execute(select(users).order_by(users.c.name))]


def add_user(db: Connection, **columns: Any) -> int:
    """A new user's id."""
    return inserted_id(db.execute(insert(users).values(**columns)))


def change_user(db: Connection, user_id: int, **columns: Any) -> None:
    db.execute(update(users).where(users.c.id == user_id).values(**columns))


def delete_user(db: Connection, user_id: int) -> None:
    db.execute(delete(users).where(users.c.id == user_id))


def tokens_of(db: Connection, user_id: int) -> list[Token]:
    found = select(tokens).where(tokens.c.user_id == user_id).order_by(tokens.c.id)
    return [value(Token, row) for row in db.execute(found)]


def add_token(db: Connection, **columns: Any) -> int:
    """A new token's id."""
    return inserted_id(db.execute(insert(tokens).values(**columns)))


def delete_token(db: Connection, token_id: int, *, user_id: int | None = None) -> bool:
    """Revoke a token (of that user, if one is named); False if there is none."""
    gone = delete(tokens).where(tokens.c.id == token_id)
    if user_id is not None:
        gone = gone.where(tokens.c.user_id == user_id)
    return changed_rows(db.execute(gone)) > 0


def touch_token(db: Connection, token_id: int, now: int) -> None:
    db.execute(update(tokens).where(tokens.c.id == token_id).values(last_used_at=now))


def add_session(db: Connection, **columns: Any) -> int:
    """A new session's id."""
    return inserted_id(db.execute(insert(sessions).values(**columns)))


def delete_session(db: Connection, session_id: int) -> None:
    db.execute(delete(sessions).where(sessions.c.id == session_id))


def delete_sessions(db: Connection, *, user_id: int, but: int | None = None) -> None:
    """Sign a user out everywhere, but for one session."""
    gone = delete(sessions).where(sessions.c.user_id == user_id)
    db.execute(gone if but is None else gone.where(sessions.c.id != but))


def delete_expired(db: Connection, now: int) -> None:
    """Forget sessions and failed sign-ins that are over."""
    db.execute(delete(sessions).where(sessions.c.expires_at < now))
    db.execute(delete(throttles).where(throttles.c.until < now - 86_400))


def failures(db: Connection, keys: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """For each key that failed lately: how often, and until when it is refused."""
    found = select(throttles.c.key, throttles.c.failures, throttles.c.until).where(throttles.c.key.in_(keys))
    return {row.key: (row.failures, row.until) for row in db.execute(found)}


def note_failure(db: Connection, key: str, *, failures: int, until: int) -> None:
    changed = db.execute(
        update(throttles).where(throttles.c.key == key).values(failures=failures, until=until)
    )
    if not changed_rows(changed):
        db.execute(insert(throttles).values(key=key, failures=failures, until=until))


def forget_failures(db: Connection, keys: tuple[str, ...]) -> None:
    db.execute(delete(throttles).where(or_(*(throttles.c.key == key for key in keys))))


def count_users(db: Connection) -> int:
    return int(db.execute(select(func.count()).select_from(users)).scalar_one())


def inserted_id(result: Any) -> int:
    """The id that the database gave to a new row."""
    return int(cast("tuple[int]", result.inserted_primary_key)[0])


def changed_rows(result: Any) -> int:
    """How many rows a statement changed."""
    return int(result.rowcount)
