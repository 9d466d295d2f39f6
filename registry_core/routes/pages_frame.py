"""Owns what every page gets and gives: who is visiting, a form that is proven to be ours, a template, safe headers."""

import hmac
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.contract import prefers_html
from gateway.errors import BadForm, Forbidden, GatewayError, Unauthorized
from registry_core.policy import Actor
from registry_core.registry import Registry
from registry_core.repo.database import again
from registry_core.routes import pages_words
from registry_core.routes.call import Call, read_body, respond_error
from registry_core.routes.pages_assets import Assets, load_assets
from registry_core.service import identity, maintenance

if TYPE_CHECKING:
    from jinja2 import Environment, Template

log = logging.getLogger(__name__)

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
FORM_COOKIE: Final = "registry_form"
_MOST_FORM_BYTES: Final = 64 * 1024
_MOST_FIELDS: Final = 50
_SERVER_ERROR: Final = 500
# Pages of people; everything else that wants HTML gets an error page instead of the way to the sign-in form.
_API_PREFIXES: Final = ("/v1", "/v2", "/version", "/assets/")

# What a page says once after something was done; the address carries only the key.
NOTICES: Final = {
    "signed-out": "You are signed out.",
    "password": "Your password is changed. All your other sessions are signed out.",
    "revoked": "The token is revoked. Whoever still uses it is refused from now on.",
    "collection-made": "The collection is ready. Push to it, or upload in the browser.",
    "collection-changed": "The collection is changed.",
    "collection-deleted": "The collection and everything in it are deleted.",
    "container-changed": "The container is changed.",
    "container-deleted": "The container and its images are deleted.",
    "image-deleted": "The image is deleted.",
    "tagged": "The tag now names this image.",
    "untagged": "The tag is removed.",
    "frozen": "The tag is frozen: it keeps naming this image.",
    "unfrozen": "The tag is no longer frozen.",
    "member": "The members are changed.",
    "user-added": "The account is made.",
    "user-changed": "The account is changed.",
    "user-removed": "The account is deleted. Its entity and its images stay.",
    "maintenance-on": "The maintenance has begun.",
    "maintenance-planned": "The maintenance is planned. Every page announces it until then.",
    "maintenance-off": "The maintenance is over.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A template and what it shows. ``cookies`` are name, value and life in seconds (0 = as long as the browser)."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    cookies: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """To another page (303), after a form or to a better address. ``notice`` is a key of ``NOTICES``."""

    path: str
    notice: str = ""
    cookies: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Nothing to show: a script asked whether it may, and it may (204)."""

    cookies: tuple[tuple[str, str, int], ...] = ()


type Made = Page | Redirect | Allowed


class Form(dict[str, str]):
    """The fields of a form; those that are missing are empty."""

    def __missing__(self, name: str) -> str:
        return ""


class Visit(Call):
    """A request for a page."""

    def __init__(self, registry: Registry, request: Request, body: bytes) -> None:
        super().__init__(request, body)
        self.registry = registry
        self.request_id = str(request.state.request_id)

    @cached_property
    def who(self) -> Actor | None:
        """Who visits. Raises: Unauthorized for a token that is not valid."""
        return identity.authenticate(
            self.registry,
            authorization=self.headers.get("authorization", ""),
            cookie=self.headers.get("cookie", ""),
        )

    @cached_property
    def form(self) -> Form:
        """The form's fields. Raises: BadForm."""
        try:
            pairs = parse_qsl(
                self.body.decode(),
                keep_blank_values=True,
                max_num_fields=_MOST_FIELDS,
                errors="strict",
            )
        except ValueError as exc:
            raise BadForm("The form cannot be read.") from exc
        if any("\0" in value for _name, value in pairs):
            raise BadForm("The form holds characters that are no text.")
        return Form(reversed(pairs))  # of several values the first counts

    def said(self, name: str) -> str:
        """A field of the form, trimmed; "" if it is missing."""
        return self.form[name].strip()

    def new_password(self, first: str) -> str:
        """A password that was typed twice: in the field ``first`` and in ``again``. Raises: BadForm."""
        if self.form[first] != self.form["again"]:
            raise BadForm("The two passwords differ.")
        return self.form[first]

    def cookie(self, name: str) -> str:
        """A cookie, or ""."""
        try:
            jar: SimpleCookie = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return ""
        return jar[name].value if name in jar else ""

    def page_number(self) -> int:
        """Which page of a long list, from 1."""
        text = self.query.get("page", "1")
        return int(text) if text.isascii() and text.isdecimal() and 0 < len(text) < 6 and int(text) else 1  # noqa: PLR2004


type Handler = Callable[[Site, Visit], Made]


class Templates:
    """The templates, loaded when the first page is asked for: the library's clients never need them."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        self._lock = threading.Lock()
        self._loaded: Environment | None = None

    def get(self, name: str) -> "Template":
        """A template, compiled."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded.get_template(name)

    def _load(self) -> "Environment":
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 – see above

        templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        templates.filters |= {
            "size": pages_words.size,
            "ago": pages_words.ago,
            "short": pages_words.short,
            "brief": pages_words.brief,
            "moment": pages_words.moment,
            "field_time": pages_words.field_time,
        }
        templates.globals |= {
            "asset": self._assets.url,
            "plural": pages_words.plural,
            "exact": pages_words.exact,
        }
        return templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The pages of one registry."""

    registry: Registry
    assets: Assets
    templates: Templates

    def route(self, path: str, *, get: Handler | None = None, post: Handler | None = None) -> Route:
        """A page. A form that a signed-in browser sends must carry the session's CSRF token."""
        handlers = {method: made for method, made in (("GET", get), ("POST", post)) if made is not None}

        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            body = await read_body(request, most=_MOST_FORM_BYTES) if method == "POST" else b""
            return await run_in_threadpool(self._answer, handlers[method], request, body)

        return Route(path, answer, methods=list(handlers))

    def _answer(self, handler: Handler, request: Request, body: bytes) -> Response:
        visit = Visit(self.registry, request, body)
        if visit.method == "POST":
            identity.check_csrf(visit.who, visit.said("csrf_token"))
        made = again(partial(handler, self, visit))
        match made:
            case Page():
                response = self.render(visit, made)
            case Redirect(path=path, notice=notice):
                mark = "&" if "?" in path else "?"
                location = f"{path}{mark}done={notice}" if notice else path
                response = Response(status_code=303, headers={"location": location} | self._headers())
            case Allowed():
                response = Response(status_code=204, headers=self._headers())
        for name, value, life_s in made.cookies:
            self._set_cookie(response, name, value, life_s)
        return response

    def render(self, visit: Visit, page: Page) -> Response:
        """The HTML of a page."""
        who, registry = visit.who, self.registry
        values = {
            "site": registry.settings.registry,
            "public_url": registry.settings.public_url,
            "who": who,
            "csrf": who.csrf if who else "",
            "path": visit.path,
            "query": visit.query,
            "notice": NOTICES.get(visit.query.get("done", ""), ""),
            "now": registry.now,
            "announced": maintenance.planned(registry),
            "problem": "",
            "uploader": False,
            **page.values,
        }
        text = self.templates.get(page.template).render(values)
        return Response(text, page.status, {"content-type": "text/html; charset=utf-8", **self._headers()})

    def _headers(self) -> dict[str, str]:
        # Forms may lead on to the public name even where a page was opened by another one.
        public = self.registry.settings.public_url
        policy = (
            "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
            f" form-action 'self' {public}; frame-ancestors 'none'"
        )
        return {
            "content-security-policy": policy,
            "cache-control": "no-store",
            "vary": "accept, cookie",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
        }

    def _set_cookie(self, response: Response, name: str, value: str, life_s: int) -> None:
        secure = self.registry.settings.public_url.startswith("https:")
        response.set_cookie(
            name,
            value,
            max_age=life_s if life_s or not value else None,
            path="/",
            secure=secure,
            httponly=True,
            samesite="lax",
        )

    # -- forms of people who are not signed in

    def form_token(self, cookie: str) -> str:
        """What a form must carry to have come from a page that set ``cookie``."""
        return hmac.digest(self.registry.secret, f"form\0{cookie}".encode(), "sha256").hex()

    def fresh_form(self, visit: Visit) -> tuple[str, tuple[tuple[str, str, int], ...]]:
        """The token for a form, and the cookie that goes with it if the visitor has none yet."""
        cookie = visit.cookie(FORM_COOKIE)
        if cookie:
            return self.form_token(cookie), ()
        cookie = secrets.token_urlsafe(24)
        return self.form_token(cookie), ((FORM_COOKIE, cookie, 0),)

    def check_form(self, visit: Visit) -> None:
        """Raises: Forbidden for a form that another site sent, or that a browser without cookies did."""
        cookie = visit.cookie(FORM_COOKIE)
        if not cookie or not hmac.compare_digest(
            visit.said("csrf_token").encode(), self.form_token(cookie).encode()
        ):
            raise Forbidden("The form is too old, or came from another site. Load the page again and repeat.")

    # -- failures

    def error_page(self, request: Request, error: GatewayError) -> Response:
        """A failure as a page; who has to sign in is led to the form and back."""
        visit = Visit(self.registry, request, b"")
        if isinstance(error, Unauthorized) and not visit.path.startswith(_API_PREFIXES):
            back = visit.target if visit.method in {"GET", "HEAD"} else ""
            where = f"/login?next={quote(back, safe='')}" if back else "/login"
            return Response(status_code=303, headers={"location": where} | self._headers())
        if error.status >= _SERVER_ERROR:
            log.error("%s %s: %s", visit.request_id, error.code, error)
        values = {"error": error, "request_id": visit.request_id}
        response = self._render_safely(visit, Page(template="error.html", values=values, status=error.status))
        for name, value in error.headers:
            response.headers[name] = value
        if error.retry_after_s is not None:
            response.headers["retry-after"] = str(error.retry_after_s)
        return response

    def _render_safely(self, visit: Visit, page: Page) -> Response:
        try:
            _ = visit.who
        except GatewayError:
            # The database is down, or the token is bad: then this page is for nobody in particular.
            visit.who = None
        return self.render(visit, page)


def open_site(registry: Registry) -> Site:
    """The site, its files found."""
    assets = load_assets()
    return Site(registry=registry, assets=assets, templates=Templates(assets))


def wants_html(request: Request) -> bool:
    """Whether a browser asks; library clients send no Accept at all."""
    return prefers_html(one.strip() for line in request.headers.getlist("accept") for one in line.split(","))


async def answer_failure(site: Site, request: Request, error: GatewayError) -> Response:
    """A page for browsers, the JSON envelope for everybody else."""
    if wants_html(request):
        return await run_in_threadpool(site.error_page, request, error)
    return respond_error(error, str(request.state.request_id))
