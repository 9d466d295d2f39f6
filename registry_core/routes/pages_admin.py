"""Owns the administrator's pages: usage, running uploads, certificate, accounts, maintenance switch, audit log."""

import secrets
from collections.abc import Sequence
from typing import Final

from starlette.routing import Route

from gateway.errors import BadForm, ClientError, Forbidden, Unauthorized
from registry_core import policy
from registry_core.policy import Actor
from registry_core.routes.pages_frame import Page, Redirect, Site, Visit
from registry_core.service import accounts, administration, certificate, maintenance
from registry_core.service.places import parse_id

_HOURS: Final = ("", "0.5", "1", "2", "4", "8", "24")


def routes(site: Site) -> Sequence[Route]:
    """The routes; everybody else is refused."""
    return (
        site.route("/admin", get=show_overview),
        site.route("/admin/users", get=show_users, post=change_users),
        site.route("/admin/maintenance", get=show_maintenance, post=switch_maintenance),
        site.route("/admin/audit", get=show_audit),
    )


def _administrator(visit: Visit) -> Actor:
    return policy.require_administrator(visit.who)


def show_overview(site: Site, visit: Visit) -> Page:
    _administrator(visit)
    values = {
        "overview": administration.overview(site.registry),
        "certificate": certificate.view(site.registry),
    }
    return Page(template="admin.html", values=values)


def show_users(site: Site, visit: Visit) -> Page:
    return _users(site, visit)


def _users(
    site: Site, visit: Visit, *, secret: tuple[str, str] | None = None, problem: str = "", status: int = 200
) -> Page:
    _administrator(visit)
    values = {
        "users": accounts.all_users(site.registry),
        "secret": secret,
        "problem": problem,
        "form": visit.form,
    }
    return Page(template="admin_users.html", values=values, status=status)


def change_users(site: Site, visit: Visit) -> Page | Redirect:
    actor = _administrator(visit)
    try:
        return _change_users(site, visit, actor)
    except Unauthorized:
        raise
    except ClientError as exc:
        return _users(site, visit, problem=exc.message, status=exc.status)


def _change_users(site: Site, visit: Visit, actor: Actor) -> Page | Redirect:
    registry, name = site.registry, visit.said("name").lower()
    match visit.said("do"):
        case "add":
            password = secrets.token_urlsafe(12)
            made = accounts.add_user(
                registry,
                name=name,
                password=password,
                admin=visit.said("admin") == "1",
                email=visit.said("email"),
                by=actor.name,
            )
            return _users(site, visit, secret=(made.name, password))
        case "reset":
            password = secrets.token_urlsafe(12)
            accounts.set_password(registry, name=name, password=password, by=actor.name)
            return _users(site, visit, secret=(name, password))
        case "disable" | "enable" | "promote" | "demote" | "remove" as do:
            if name == actor.name:
                raise Forbidden("You cannot take your own rights away. Ask another administrator.")
            return _change_user(site, name, do, by=actor.name)
        case other:
            raise BadForm(f"This form cannot do '{other[:40]}'.")


def _change_user(site: Site, name: str, do: str, *, by: str) -> Redirect:
    registry = site.registry
    if do == "remove":
        accounts.remove_user(registry, name=name, by=by)
        return Redirect(path="/admin/users", notice="user-removed")
    if do in {"disable", "enable"}:
        accounts.change_user(registry, name=name, disabled=do == "disable", by=by)
    else:
        accounts.change_user(registry, name=name, admin=do == "promote", by=by)
    return Redirect(path="/admin/users", notice="user-changed")


def show_maintenance(site: Site, visit: Visit) -> Page:
    return _maintenance(site, visit)


def _maintenance(site: Site, visit: Visit, *, problem: str = "", status: int = 200) -> Page:
    _administrator(visit)
    values = {
        "maintenance": maintenance.planned(site.registry),
        "modes": maintenance.MODES,
        "hours": _HOURS,
        "address": visit.client,
        "problem": problem,
        "form": visit.form,
    }
    return Page(template="admin_maintenance.html", values=values, status=status)


def switch_maintenance(site: Site, visit: Visit) -> Page | Redirect:
    _administrator(visit)
    if visit.said("do") == "off":
        maintenance.turn_off(site.registry, visit.who)
        return Redirect(path="/admin/maintenance", notice="maintenance-off")
    try:
        maintenance.turn_on(
            site.registry,
            visit.who,
            mode=visit.said("mode"),
            message=visit.said("message"),
            hours=_hours(visit.said("hours")),
            allow=visit.said("allow").replace(",", " ").split(),
            at=visit.said("at"),
        )
    except BadForm as exc:
        return _maintenance(site, visit, problem=exc.message, status=400)
    is_on = maintenance.current(site.registry) is not None
    return Redirect(path="/admin/maintenance", notice="maintenance-on" if is_on else "maintenance-planned")


def _hours(text: str) -> float | None:
    if text not in _HOURS:
        raise BadForm("Choose how long it will take.")
    return float(text) if text else None


def show_audit(site: Site, visit: Visit) -> Page:
    _administrator(visit)
    before = visit.query.get("before", "")
    lines, more = administration.audit_lines(site.registry, before_id=parse_id(before) if before else None)
    return Page(template="admin_audit.html", values={"lines": lines, "more": more})
