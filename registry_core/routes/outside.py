"""Owns the paths of signing in elsewhere: OpenID Connect, and a forward-auth proxy's header."""

from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from registry_core.registry import Registry
from registry_core.routes.call import Call
from registry_core.routes.pages_sign_in import local_path
from registry_core.service import outside
from registry_core.service.identity import SESSION_COOKIE, SignedIn
from registry_core.service.oidc import CALLBACK_PATH, PENDING_S, OpenIdProvider

_PENDING_COOKIE: Final = "registry_oidc"


def routes(registry: Registry) -> Sequence[Route]:
    """The routes; each is 404 unless it is set up."""
    provider = OpenIdProvider(registry)
    secure = registry.settings.public_url.startswith("https:")

    async def begin(request: Request) -> Response:
        back = local_path(Call(request, b"").query.get("next", "/"))
        begun = await run_in_threadpool(provider.begin, back)
        response = _redirect(begun.url)
        response.set_cookie(
            _PENDING_COOKIE,
            begun.cookie,
            max_age=PENDING_S,
            path="/login",
            secure=secure,
            httponly=True,
            samesite="lax",
        )
        return response

    def _finish(call: Call) -> tuple[SignedIn, str]:
        return provider.finish(
            code=call.query.get("code", ""),
            state=call.query.get("state", ""),
            error=call.query.get("error", ""),
            cookie=_cookie(call, _PENDING_COOKIE),
            address=call.client,
        )

    async def finish(request: Request) -> Response:
        signed_in, back = await run_in_threadpool(_finish, Call(request, b""))
        response = _redirect(back)
        response.delete_cookie(_PENDING_COOKIE, path="/login", secure=secure, httponly=True, samesite="lax")
        return _with_session(response, signed_in, secure=secure)

    async def by_header(request: Request) -> Response:
        call = Call(request, b"")
        signed_in = await run_in_threadpool(
            lambda: outside.sign_in_by_header(registry, call.headers, address=call.client)
        )
        return _with_session(_redirect(local_path(call.query.get("next", "/"))), signed_in, secure=secure)

    return (
        Route("/login/oidc", begin, methods=["GET"]),
        Route(CALLBACK_PATH, finish, methods=["GET"]),
        Route("/login/header", by_header, methods=["GET"]),
    )


def _redirect(address: str) -> Response:
    return RedirectResponse(address, status_code=303, headers={"cache-control": "no-store"})


def _with_session(response: Response, signed_in: SignedIn, *, secure: bool) -> Response:
    response.set_cookie(
        SESSION_COOKIE,
        signed_in.cookie,
        max_age=signed_in.max_age_s,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return response


def _cookie(call: Call, name: str) -> str:
    try:
        jar: SimpleCookie = SimpleCookie(call.headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""
