"""Owns signing in, signing out and, where the registry is open, signing up."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from starlette.routing import Route

from gateway.errors import BadForm, Conflict, NotFound, TooManyRequests, Unauthorized
from registry_core.routes.pages_frame import FORM_COOKIE, Page, Redirect, Site, Visit
from registry_core.service import identity
from registry_core.service.identity import SESSION_COOKIE, SignedIn
from registry_core.service.signup import sign_up

_LONGEST_BACK: Final = 2000


def routes(site: Site) -> Sequence[Route]:
    """The routes."""
    return (
        site.route("/login", get=show_sign_in, post=sign_in),
        site.route("/logout", post=sign_out),
        site.route("/signup", get=show_sign_up, post=make_account),
    )


def local_path(text: str) -> str:
    """Where to go after signing in: a path of this site, or the home page for anything else."""
    hidden = any(ord(char) < ord("!") or char == "\\" for char in text)
    if not text.startswith("/") or text.startswith("//") or hidden or len(text) > _LONGEST_BACK:
        return "/"
    # A header field holds no other letters; what is escaped already stays as it is.
    return "".join(char if char.isascii() else quote(char) for char in text)


def show_sign_in(site: Site, visit: Visit) -> Page | Redirect:
    back = local_path(visit.query.get("next", "/"))
    if visit.who is not None:
        return Redirect(path=back)
    return _sign_in_form(site, visit, back=back)


def _sign_in_form(site: Site, visit: Visit, *, back: str, problem: str = "", status: int = 200) -> Page:
    token, cookies = site.fresh_form(visit)
    values = {"form_token": token, "back": back, "problem": problem, "name": visit.said("name")}
    return Page(template="login.html", values=values, status=status, cookies=cookies)


def sign_in(site: Site, visit: Visit) -> Page | Redirect:
    back = local_path(visit.said("next"))
    if visit.who is not None:
        return Redirect(path=back)
    site.check_form(visit)
    try:
        signed_in = identity.sign_in(
            site.registry,
            name=visit.said("name"),
            password=visit.form["password"],
            address=visit.client,
        )
    except (Unauthorized, TooManyRequests) as exc:
        # 401 would make some programs ask for a token; the form simply comes again.
        status = exc.status if isinstance(exc, TooManyRequests) else 403
        return _sign_in_form(site, visit, back=back, problem=exc.message, status=status)
    return Redirect(path=back, cookies=_session_cookies(signed_in))


def _session_cookies(signed_in: SignedIn) -> tuple[tuple[str, str, int], ...]:
    return (
        (SESSION_COOKIE, signed_in.cookie, signed_in.max_age_s),
        (FORM_COOKIE, "", 0),
    )


def sign_out(site: Site, visit: Visit) -> Redirect:
    identity.sign_out(site.registry, visit.who)
    return Redirect(path="/", notice="signed-out", cookies=((SESSION_COOKIE, "", 0),))


def show_sign_up(site: Site, visit: Visit) -> Page | Redirect:
    if site.registry.settings.registry.accounts != "open":
        raise NotFound("Accounts of this registry are made by its administrator.")
    if visit.who is not None:
        return Redirect(path="/")
    return _sign_up_form(site, visit)


def _sign_up_form(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    token, cookies = site.fresh_form(visit)
    values = {"form_token": token, "problem": problem, "form": visit.form}
    return Page(template="signup.html", values=values, status=status, cookies=cookies)


def make_account(site: Site, visit: Visit) -> Page | Redirect:
    site.check_form(visit)
    registry = site.registry
    try:
        user = sign_up(
            registry,
            name=visit.said("name"),
            password=visit.new_password("password"),
            email=visit.said("email"),
            address=visit.client,
        )
    except (BadForm, Conflict, TooManyRequests) as exc:
        return _sign_up_form(site, visit, problem=exc.message, status=exc.status)
    signed_in = identity.begin_session(registry, user, address=visit.client, how="sign-up")
    return Redirect(path="/", cookies=_session_cookies(signed_in))
