"""Owns secrets of people: how tokens and sessions are made, and how passwords are kept."""

import base64
import hashlib
import hmac
import secrets
import threading
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import BadForm

# `remote login --tokenfile` of the real clients takes 200 to 4,096 characters.
TOKEN_PREFIX: Final = "sgr_"  # noqa: S105 – the public part
_TOKEN_BYTES: Final = 160  # 214 characters of base64
_HINT_CHARS: Final = 10
PASSWORD_MIN_CHARS: Final = 8
PASSWORD_MAX_CHARS: Final = 1024
BAD_PASSWORD: Final = "A password has 8 to 1,024 characters."  # noqa: S105 – a sentence

_DJANGO: Final = "pbkdf2_sha256$"
_HASHER: Final = PasswordHasher()
# Each check takes 64 MiB; more than two at once would be a way to exhaust the machine's memory.
_AT_ONCE: Final = threading.BoundedSemaphore(2)


def new_token() -> str:
    """A token of its own length and prefix, so that secret scanners know it."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def token_hint(token: str) -> str:
    """The first characters: enough to recognise a token in a list, useless to anyone else."""
    return token[:_HINT_CHARS]


def new_secret() -> str:
    """A cookie, a CSRF token or an upload id."""
    return secrets.token_urlsafe(24)


def digest(secret: str) -> str:
    """What is stored of a token or cookie; they are random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_new_password(password: str) -> str:
    """The password, if it may be one. Raises: BadForm."""
    if not PASSWORD_MIN_CHARS <= len(password) <= PASSWORD_MAX_CHARS:
        raise BadForm(BAD_PASSWORD)
    if password.encode("utf-8", "replace").decode() != password:
        raise BadForm("The password is not written in UTF-8; nobody could type it into a form.")
    return password


def hash_password(password: str) -> str:
    """An argon2id hash with its parameters."""
    with _AT_ONCE:
        return _HASHER.hash(password)


def password_matches(stored: str, password: str) -> bool:
    """Whether ``password`` is the one that was hashed. Takes as long when there is none to compare with."""
    if stored.startswith(_DJANGO):
        return _django_matches(stored, password)
    with _AT_ONCE:
        try:
            return _HASHER.verify(stored or _nobody(), password) and bool(stored)
        except (VerificationError, InvalidHashError):
            return False


def _django_matches(stored: str, password: str) -> bool:
    """Accounts that were taken over from an old registry keep Django's hashes until they change their password."""
    try:
        _name, rounds, salt, expected = stored.split("$")
        found = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), int(rounds))
        return hmac.compare_digest(base64.b64encode(found).decode(), expected)
    except ValueError:
        return False


def _nobody() -> str:
    # A hash of the right cost that nothing matches.
    return "$argon2id$v=19$m=65536,t=3,p=4$" + "A" * 22 + "$" + "A" * 43
