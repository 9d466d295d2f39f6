"""Owns ``Visitor``: somebody who uses the registry's pages without JavaScript, in process, with cookies and forms."""

import asyncio
import re
from collections.abc import Mapping
from functools import cache
from html import unescape
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

from registry_core.credentials import hash_password
from registry_core.repo import accounts
from registry_core.service import accounts as users
from registry_core.service import identity
from tests.support.asgi import ask_app
from tests.support.core import Core

PASSWORD = "correct horse battery"
_BROWSER_ACCEPT = "text/html,application/xhtml+xml,*/*;q=0.8"


class _Fields(HTMLParser):
    """The hidden fields of each form, and every link."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
        elif tag == "input" and named.get("type") == "hidden" and self.forms:
            self.forms[-1][named["name"]] = named.get("value", "")
        elif tag == "a":
            self.links.append(named.get("href", ""))


class Shown:
    """What a request led to: a page, or the way to one."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = dict(headers)
        self.set_cookies = [value for name, value in headers if name == "set-cookie"]
        self.body = body
        self.html = body.decode("utf-8", "replace")
        self._fields = _Fields()
        self._fields.feed(self.html)

    @property
    def location(self) -> str:
        """Where it leads, "" if nowhere."""
        return self.headers.get("location", "")

    @property
    def text(self) -> str:
        """What can be read on it, spaces folded."""
        bare = re.sub(r"<(script|style|title)\b.*?</\1>", " ", self.html, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", bare.replace("<wbr>", ""))).split())

    @property
    def links(self) -> list[str]:
        return self._fields.links

    @property
    def csrf(self) -> str:
        """The token of any of its forms."""
        return next((form["csrf_token"] for form in self._fields.forms if "csrf_token" in form), "")

    @property
    def command_lines(self) -> list[str]:
        """What it offers to be copied."""
        return [unescape(found) for found in re.findall(r"<code>([^<]*)</code></pre>", self.html)]


class Visitor:
    """One browser. ``core`` is the registry that it visits."""

    def __init__(self, core: Core, *, address: str = "203.0.113.9") -> None:
        self.core = core
        self.address = address
        self.cookies: dict[str, str] = {}

    def request(
        self, method: str, target: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Shown:
        """One request; redirects are not followed."""
        fields = {"accept": _BROWSER_ACCEPT, "x-real-ip": self.address}
        if self.cookies:
            fields["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields |= headers or {}
        shown = asyncio.run(_drive(self.core, method, target, body, fields))
        for line in shown.set_cookies:
            for name, morsel in SimpleCookie(line).items():
                if morsel.value:
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        return shown

    def get(self, target: str, **headers: str) -> Shown:
        """A page. ``headers`` are written with '_' for '-'."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", target, headers=fields)

    def open(self, target: str) -> Shown:
        """A page, wherever it leads to."""
        shown = self.get(target)
        while shown.location:
            shown = self.get(path_of(shown.location))
        return shown

    def post(self, target: str, *, csrf: str | None = None, accept: str = "", **fields: str) -> Shown:
        """A form; its CSRF token is taken from the page unless one is given."""
        token = self.get(target).csrf if csrf is None else csrf
        body = urlencode({"csrf_token": token, **fields}).encode()
        return self.request("POST", target, body=body, headers={"accept": accept or _BROWSER_ACCEPT})

    def submit(self, path: str, **fields: str) -> Shown:
        """A form that works: the page to which it leads."""
        answered = self.post(path, **fields)
        assert answered.status == 303, answered.text
        return self.get(answered.location)

    def sign_in(self, name: str, *, password: str = PASSWORD) -> "Visitor":
        """By the form, with the password that ``add_person`` gave."""
        answered = self.post("/login", name=name, password=password, next="/")
        assert answered.status == 303, answered.text
        return self


@cache
def _password_hash() -> str:
    # Hashing is slow on purpose; once is enough for all tests.
    return hash_password(PASSWORD)


def add_person(core: Core, name: str, *, admin: bool = False) -> Visitor:
    """A new account, and a browser that is signed in to it; ``core`` can also upload as them."""
    registry = core.registry
    user = users.add_user(registry, name=name, password=None, admin=admin, by="test")
    with registry.database.write() as db:
        accounts.change_user(db, user.id, password=_password_hash())
    core.tokens[name] = core.token(name, scope="push")
    visitor = Visitor(core)
    signed_in = identity.begin_session(registry, user, address=visitor.address, how="test")
    visitor.cookies[identity.SESSION_COOKIE] = signed_in.cookie
    return visitor


def path_of(url: str) -> str:
    """Path and query of an address that the registry gave."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


async def _drive(core: Core, method: str, target: str, body: bytes, headers: dict[str, str]) -> Shown:
    said = await ask_app(core.app, method, target, body=body, headers=headers)
    return Shown(said.status, said.fields, said.body)
