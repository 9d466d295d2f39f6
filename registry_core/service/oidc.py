"""Owns signing in by OpenID Connect: the authorization code flow with PKCE, state and nonce.

What a sign-in under way must remember travels in a cookie that we sign; nothing of it is stored.
"""

import base64
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlencode

from gateway.errors import Forbidden, NotFound, UpstreamError
from registry_core.memory import ShortMemory
from registry_core.registry import Registry
from registry_core.service import identity, outside, web
from registry_core.service.identity import SignedIn

CALLBACK_PATH: Final = "/login/oidc/callback"
PENDING_S: Final = 600
_REMEMBER_S: Final = 3600
_LEEWAY_S: Final = 60
# Signatures by the provider's own key; never "none", never a secret shared with others.
_ALGORITHMS: Final = [
    "RS256",
    "RS384",
    "RS512",
    "ES256",
    "ES384",
    "ES512",
    "PS256",
    "PS384",
    "PS512",
    "EdDSA",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A sign-in under way."""

    state: str
    nonce: str
    verifier: str
    back: str
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where the browser goes, and the cookie that it brings back."""

    url: str
    cookie: str


class OpenIdProvider:
    """The provider that the settings name."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._settings = registry.settings.registry
        self._documents = ShortMemory[dict[str, Any]](ttl_s=_REMEMBER_S, clock=registry.clock)

    def begin(self, back: str) -> Begun:
        """Raises: NotFound (not set up), UpstreamError."""
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # noqa: PLC0415 – off by default

        self._check_set_up()
        pending = Pending(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            back=back,
            expires=self._registry.now + PENDING_S,
        )
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._registry.url(CALLBACK_PATH),
            "scope": "openid profile email",
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": create_s256_code_challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        joiner = "&" if "?" in address else "?"
        return Begun(url=f"{address}{joiner}{urlencode(query)}", cookie=self._seal(pending))

    def finish(self, *, code: str, state: str, error: str, cookie: str, address: str) -> tuple[SignedIn, str]:
        """A session, and where the browser wanted to go.

        Raises: NotFound (not set up), Forbidden, Conflict, UpstreamError.
        """
        self._check_set_up()
        pending = self._open(cookie)
        if pending is None or not hmac.compare_digest(pending.state.encode(), state.encode()):
            raise Forbidden("This sign-in was not begun here, or took too long. Begin it again.")
        if error or not code:
            raise Forbidden(f"{self._settings.oidc_name} did not let you in ({error[:80] or 'no code'}).")
        claims = self._claims(self._exchange(code, pending), pending)
        name = claims.get(self._settings.oidc_user_claim) or claims.get("email") or claims["sub"]
        user = outside.user_of_identity(
            self._registry,
            issuer=str(claims["iss"]),
            subject=str(claims["sub"]),
            name=str(name),
            email=str(claims.get("email") or ""),
            real_name=str(claims.get("name") or ""),
        )
        signed_in = identity.begin_session(
            self._registry, user, address=address, how=self._settings.oidc_name
        )
        return signed_in, pending.back

    def _check_set_up(self) -> None:
        if not self._settings.oidc_issuer:
            raise NotFound("Sign-in by OpenID Connect is not set up here.")

    def _exchange(self, code: str, pending: Pending) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._registry.url(CALLBACK_PATH),
            "client_id": self._settings.oidc_client_id,
            "code_verifier": pending.verifier,
        }
        headers = {}
        if self._settings.oidc_client_secret_file is not None:
            secret = self._settings.oidc_client_secret_file.read_text().strip()
            pair = f"{self._settings.oidc_client_id}:{secret}".encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return web.post_form(self._endpoint("token_endpoint"), form, headers)

    def _claims(self, answer: dict[str, Any], pending: Pending) -> dict[str, Any]:
        """The claims of the ID token, verified, with those of the userinfo endpoint beside them."""
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415 – off by default
        from joserfc import jwt  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415
        from joserfc.jwk import KeySet  # noqa: PLC0415

        try:
            keys = KeySet.import_key_set(self._document(self._endpoint("jwks_uri")))  # type: ignore[arg-type]
            token = jwt.decode(str(answer["id_token"]), keys, algorithms=_ALGORITHMS)
            claims = CodeIDToken(
                token.claims,
                token.header,
                options={
                    "iss": {"essential": True, "value": self._issuer()},
                    "aud": {"essential": True, "value": self._settings.oidc_client_id},
                },
                params={"nonce": pending.nonce, "client_id": self._settings.oidc_client_id},
            )
            claims.validate(now=self._registry.now, leeway=_LEEWAY_S)
        except (JoseError, KeyError, ValueError) as exc:
            raise Forbidden(
                "The provider's answer cannot be trusted. Tell the administrator.", detail=repr(exc)
            ) from exc
        return {**self._userinfo(answer, str(claims["sub"])), **claims}

    def _userinfo(self, answer: dict[str, Any], subject: str) -> dict[str, Any]:
        address = self._discovered().get("userinfo_endpoint")
        if not isinstance(address, str) or "access_token" not in answer:
            return {}
        said = web.get_json(address, {"authorization": f"Bearer {answer['access_token']}"})
        return said if said.get("sub") == subject else {}

    def _issuer(self) -> str:
        return str(self._discovered()["issuer"])

    def _endpoint(self, name: str) -> str:
        address = self._discovered().get(name)
        if not isinstance(address, str):
            raise UpstreamError(detail=f"the provider names no {name}")
        return address

    def _discovered(self) -> dict[str, Any]:
        issuer = self._settings.oidc_issuer.rstrip("/")
        found = self._document(f"{issuer}/.well-known/openid-configuration")
        if str(found.get("issuer", "")).rstrip("/") != issuer:
            raise UpstreamError(detail="the provider calls itself by another name than registry.oidc_issuer")
        return found

    def _document(self, address: str) -> dict[str, Any]:
        found = self._documents.get(address)
        if found is None:
            found = web.get_json(address, {})
            self._documents.put(address, found)
        return found

    def _seal(self, pending: Pending) -> str:
        body = base64.urlsafe_b64encode(json.dumps(asdict(pending)).encode()).decode()
        return f"{body}.{self._mac(body)}"

    def _open(self, cookie: str) -> Pending | None:
        body, _, mac = cookie.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(body).encode()):
            return None
        pending = Pending(**json.loads(base64.urlsafe_b64decode(body)))
        return pending if pending.expires >= self._registry.now else None

    def _mac(self, body: str) -> str:
        return hmac.digest(self._registry.secret, f"oidc\0{body}".encode(), "sha256").hex()
