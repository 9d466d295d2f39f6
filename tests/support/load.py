"""Owns a steady load of requests, and the counts of what became of each request and each upload."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.support.product import Product

TIMEOUT_S: Final = 120.0


class Cut(Exception):
    """The connection ended without an answer. ``was_used``: it had carried an earlier request."""

    def __init__(self, cause: BaseException, *, was_used: bool, since: float = 0.0) -> None:
        super().__init__(repr(cause))
        self.was_used = was_used
        self.since = since or time.monotonic()


@dataclass(slots=True)
class Counts:
    """What happened, by name; ``failed`` holds a sentence for each thing that must not be."""

    numbers: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.numbers[name] += 1

    def fail(self, what: str) -> None:
        self.failed.append(f"{time.strftime('%T')} {what}")

    def was_killed_between(self, began: float, ended: float) -> bool:
        """Whether a worker was killed while a request ran, so that its connection may have died with it."""
        return any(began <= kill <= ended for kill in self.kills)

    def table(self) -> str:
        return "\n".join(f"{count:7}  {name}" for name, count in sorted(self.numbers.items()))


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Connection:
    """One connection to the product, by the library that most programs use."""

    def __init__(self, product: Product, counts: Counts) -> None:
        self._counts = counts
        self._used = False
        self._since = time.monotonic()
        self.http = http.client.HTTPSConnection(
            "localhost", product.https_port, context=product.ssl_context(), timeout=TIMEOUT_S
        )

    def connect(self) -> None:
        """Raises: Cut."""
        try:
            self.http.connect()
        except ConnectionRefusedError as exc:
            self._counts.add("connections refused")
            self._counts.fail("a connection was refused")
            raise Cut(exc, was_used=False) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Cut(exc, was_used=False) from exc

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request. Raises: Cut."""
        if self.http.sock is None:
            self._used = False
            self._since = time.monotonic()
            self.connect()
        try:
            self.http.request(method, path, body or None, headers or {})
            return self.answer()
        except (OSError, http.client.HTTPException) as exc:
            self.http.close()
            raise Cut(exc, was_used=self._used, since=self._since) from exc

    def answer(self) -> Answer:
        found = self.http.getresponse()
        body = found.read()
        self._used = True
        return Answer(found.status, found.headers, body)

    def close(self) -> None:
        self.http.close()


def ill_formed(answer: Answer, *, as_html: bool) -> str:
    """What is wrong with a 503, or ""."""
    if not answer.headers.get("Retry-After", "").isdecimal():
        return f"503 without Retry-After: {answer.headers.items()}"
    if answer.headers.get("Cache-Control") != "no-store":
        return "503 that may be cached"
    if as_html:
        is_page = answer.headers.get_content_type() == "text/html" and b"</html>" in answer.body
        return "" if is_page else f"503 without its page: {answer.body[:200]!r}"
    try:
        value = json.loads(answer.body)
        is_right = value["error"]["code"] == 503 and value["error"]["message"] and value["request_id"]
    except (ValueError, KeyError, TypeError):
        is_right = False
    return "" if is_right else f"503 with a wrong body: {answer.body[:200]!r}"


class Getters:
    """A steady number of GETs each second: pages, API calls, pulls; half of them on new connections."""

    def __init__(self, product: Product, counts: Counts, *, ref: str, content: bytes, per_s: float) -> None:
        self._product, self._counts, self._content = product, counts, content
        self._every_s = 1 / per_s
        self._next = time.monotonic()
        self._lock = threading.Lock()
        self.over = threading.Event()
        self._paths = (
            ("/", True),
            ("/version", False),
            (f"/v1/images/{ref}?arch=amd64", False),
            (f"/v1/imagefile/{ref}?arch=amd64", False),
            ("/v1/search?value=tool", False),
            ("/collections/ada/tools", True),
        )
        self.threads = [
            threading.Thread(target=self._run, args=(number, number % 2 == 0)) for number in range(24)
        ]

    def _turn(self) -> bool:
        """Wait for this thread's turn; False when all is over."""
        with self._lock:
            self._next = max(self._next + self._every_s, time.monotonic() - 1)
            at = self._next
        return not self.over.wait(max(0.0, at - time.monotonic()))

    def _run(self, number: int, keeps: bool) -> None:
        chance = random.Random(number)
        connection = Connection(self._product, self._counts)
        while self._turn():
            path, as_html = chance.choice(self._paths)
            self._get(connection, path, as_html=as_html, kind="kept" if keeps else "new")
            if not keeps:
                connection.close()
        connection.close()

    def _get(self, connection: Connection, path: str, *, as_html: bool, kind: str) -> None:
        headers = {"Accept": "text/html" if as_html else "application/json"}
        began = time.monotonic()
        while True:
            try:
                answer = connection.ask("GET", path, headers)
            except Cut as cut:
                if self._counts.was_killed_between(began, time.monotonic()):
                    self._counts.add("GET cut by the kill of its worker")
                    return
                if not cut.was_used:
                    self._counts.fail(f"GET {path} ({kind} connection): {cut}")
                    return
                was_killed = self._counts.was_killed_between(cut.since, began)
                cause = "died with its worker" if was_killed else "had been closed"
                self._counts.add(f"GET asked again: the idle connection {cause}")
                continue
            break
        self._counts.add(f"GET {answer.status} ({kind} connection)")
        if answer.status == 503:
            if wrong := ill_formed(answer, as_html=as_html):
                self._counts.fail(f"GET {path}: {wrong}")
        elif answer.status == 303:
            self._get(connection, answer.headers["Location"], as_html=False, kind=kind)
        elif answer.status != 200:
            self._counts.fail(f"GET {path}: {answer.status} {answer.body[:200]!r}")
        elif path.startswith("/v1/blobs/") and answer.body != self._content:
            self._counts.fail(f"GET {path}: {len(answer.body)} bytes, and not those that were pushed")
