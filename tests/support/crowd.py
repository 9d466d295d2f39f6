"""Owns a crowd: many clients at once, each on a connection of its own, that push and pull and remember what was said."""

import hashlib
import http.client
import json
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.product import Product

_SERVER_ERROR: Final = 500
_IMAGE_BYTES: Final = 3000


class Surprise(Exception):
    """An answer that nobody who uses the product should get."""


@dataclass(slots=True)
class Seen:
    """What the clients were told, together: statuses, and for each tag that was confirmed the digest it names."""

    statuses: Counter[int] = field(default_factory=Counter)
    tags: dict[str, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    surprises: list[str] = field(default_factory=list)

    def take(self, other: "Seen") -> None:
        """Add what another client saw."""
        self.statuses += other.statuses
        self.tags |= other.tags
        self.digests |= other.digests
        self.surprises += other.surprises


class Walker:
    """One client of one user. All clients of a user share one container, so that they meet there."""

    def __init__(
        self, product: Product, *, user: str, token: str, number: int, trust: ssl.SSLContext
    ) -> None:
        self.seen = Seen()
        self._user = user
        self._number = number
        self._headers = {"Authorization": f"Bearer {token}"}
        self._wire = http.client.HTTPSConnection("localhost", product.https_port, context=trust, timeout=60)

    def run(self, until: float) -> None:
        """Push and pull until the time has come, or something is wrong."""
        turn = 0
        try:
            while time.monotonic() < until:
                turn += 1
                self._turn(turn)
        except (Surprise, OSError, http.client.HTTPException, KeyError, ValueError) as exc:
            self.seen.surprises.append(f"{self._user} {self._number}, turn {turn}: {exc!r}")
        finally:
            self._wire.close()

    def _turn(self, turn: int) -> None:
        # Every fourth image is the same for all clients of the container: they race for one row and one file.
        same = turn % 4 == 0
        content = (
            hashlib.shake_256(f"{self._user}{turn}".encode()).digest(_IMAGE_BYTES)
            if same
            else secrets.token_bytes(_IMAGE_BYTES)
        )
        digest = hashlib.sha256(content).hexdigest()
        tag = f"c{self._number}-{turn}"
        if turn % 3:
            self._push(content, digest, tag)
        else:
            self._upload(content, tag)
        self.seen.tags[tag] = digest
        self.seen.digests.add(digest)
        self._pull(content, digest, tag)

    def _push(self, content: bytes, digest: str, tag: str) -> None:
        entity = self._found("entities", self._user, {"name": self._user})
        collection = self._found("collections", f"{self._user}/crowd", {"name": "crowd", "entity": entity})
        container = self._found(
            "containers", f"{self._user}/crowd/tool", {"name": "tool", "collection": collection}
        )
        image = self._data("POST", "/v1/images", {"hash": f"sha256.{digest}", "container": container})
        if not image["uploaded"]:
            said = {"filesize": len(content), "sha256sum": digest}
            url = self._data("POST", f"/v2/imagefile/{image['id']}", said)["uploadURL"]
            self._call("PUT", url, content, expect=(200,))
            self._data("PUT", f"/v2/imagefile/{image['id']}/_complete", {})
        for name in (tag, "latest"):
            self._data(
                "POST", f"/v2/tags/{container}", {"Tag": name, "ImageID": image["id"], "Arch": "amd64"}
            )

    def _found(self, kind: str, path: str, value: dict[str, Any]) -> str:
        status, body = self._call("GET", f"/v1/{kind}/{path}", expect=(200, 404))
        if status == 404:
            return str(self._data("POST", f"/v1/{kind}", value)["id"])
        return str(json.loads(body)["data"]["id"])

    def _upload(self, content: bytes, tag: str) -> None:
        line = secrets.token_hex(12)
        fields = "".join(
            f'--{line}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in (("name", "tool"), ("tag", tag))
        )
        head = f'--{line}\r\nContent-Disposition: form-data; name="file"; filename="tool.sif"\r\n\r\n'
        body = fields.encode() + head.encode() + content + f"\r\n--{line}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={line}"}
        self._call("POST", f"/upload?collection={self._user}/crowd", body, expect=(201,), headers=kind)

    def _pull(self, content: bytes, digest: str, tag: str) -> None:
        found = self._data("GET", f"/v1/images/{self._user}/crowd/tool:{tag}?arch=amd64")
        if found["hash"] != f"sha256.{digest}" or tag not in found["tags"]:
            raise Surprise(f"{tag} names {found['hash']} with the tags {found['tags']}, not {digest}")
        link = self._call("GET", f"/v1/imagefile/{self._user}/crowd/tool:{tag}?arch=amd64", expect=(303,))[1]
        if self._call("GET", link.decode(), expect=(200,))[1] != content:
            raise Surprise(f"{tag} has other bytes")

    def _data(self, method: str, target: str, value: dict[str, Any] | None = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        return json.loads(self._call(method, target, body, expect=(200,))[1])["data"]

    def _call(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        expect: tuple[int, ...],
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body; of a redirect, where it leads."""
        path = urlsplit(target)
        self._wire.request(
            method,
            path.path + (f"?{path.query}" if path.query else ""),
            body=body,
            headers=self._headers | (headers or {}),
        )
        answer = self._wire.getresponse()
        text = answer.read()
        self.seen.statuses[answer.status] += 1
        if answer.status not in expect:
            raise Surprise(f"{method} {target[:80]}: {answer.status} {text[:300]!r}")
        return answer.status, (answer.getheader("location") or "").encode() or text


def walk(product: Product, *, clients: int, users: dict[str, str], seconds: float) -> dict[str, Seen]:
    """What all clients saw, by user. ``users`` maps names to tokens; the clients are spread over them."""
    trust = product.ssl_context()
    names = list(users)
    walkers = [
        (name, Walker(product, user=name, token=users[name], number=number, trust=trust))
        for number, name in zip(range(clients), _cycle(names), strict=False)
    ]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=walker.run, args=(until,)) for _name, walker in walkers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = {name: Seen() for name in names}
    for name, walker in walkers:
        seen[name].take(walker.seen)
    return seen


def _cycle(names: list[str]) -> Iterator[str]:
    while True:
        yield from names


def server_errors(seen: Seen) -> int:
    """How many answers said that the server is at fault."""
    return sum(count for status, count in seen.statuses.items() if status >= _SERVER_ERROR)
