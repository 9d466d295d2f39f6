"""Owns the pages about oneself: access tokens and the account."""

from collections.abc import Sequence
from typing import Final

from starlette.routing import Route

from gateway.errors import BadForm, NotFound, Unauthorized
from registry_core import policy
from registry_core.routes.pages_frame import Page, Redirect, Site, Visit
from registry_core.service import accounts, browse, places
from registry_core.service.accounts import NewToken

# How long a new token lives; 0 = for ever. The first is what most people want.
DAYS: Final = (90, 7, 30, 365, 0)


def routes(site: Site) -> Sequence[Route]:
    """The routes; real clients tell their users to go to ``/auth/tokens``."""
    return (
        site.route("/tokens", get=show_tokens, post=change_tokens),
        site.route("/auth/tokens", get=show_tokens, post=change_tokens),
        site.route("/account", get=show_account, post=change_account),
    )


def show_tokens(site: Site, visit: Visit) -> Page:
    return _tokens(site, visit)


def _tokens(
    site: Site, visit: Visit, *, made: NewToken | None = None, problem: str = "", status: int = 200
) -> Page:
    values = {
        "tokens": accounts.own_tokens(site.registry, visit.who),
        "made": made,
        "days": DAYS,
        "problem": problem,
        "form": visit.form,
    }
    return Page(template="tokens.html", values=values, status=status)


def change_tokens(site: Site, visit: Visit) -> Page | Redirect:
    policy.require_user(visit.who)
    try:
        if visit.said("do") == "revoke":
            token_id = places.parse_id(visit.said("id"))
            accounts.revoke_own_token(site.registry, visit.who, token_id)
            return Redirect(path="/tokens", notice="revoked")
        made = accounts.create_own_token(
            site.registry,
            visit.who,
            scope=visit.said("scope"),
            days=_days(visit.said("days")),
            label=visit.said("label"),
        )
    except (BadForm, NotFound) as exc:
        return _tokens(site, visit, problem=exc.message, status=exc.status)
    return _tokens(site, visit, made=made)


def _days(text: str) -> float | None:
    if text not in {str(days) for days in DAYS}:
        raise BadForm("Choose how long the token is good.")
    return float(text) or None


def show_account(site: Site, visit: Visit) -> Page:
    return _account(site, visit)


def _account(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    actor = policy.require_user(visit.who)
    values = {
        "user": accounts.find_user(site.registry, actor.name),
        "usage": browse.own_usage(site.registry, actor),
        "problem": problem,
    }
    return Page(template="account.html", values=values, status=status)


def change_account(site: Site, visit: Visit) -> Page | Redirect:
    actor = policy.require_user(visit.who)
    try:
        new = visit.new_password("new")
        accounts.change_password(site.registry, actor, old=visit.form["old"], new=new)
    except (BadForm, Unauthorized) as exc:
        # 401 would lead to the sign-in form, away from this one.
        return _account(site, visit, problem=exc.message, status=400)
    return Redirect(path="/account", notice="password")
