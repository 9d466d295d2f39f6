"""Owns a library push step by step, for tests that stop in the middle, lie, or go wrong on purpose."""

import hashlib
import http.client
import json
from dataclasses import dataclass
from typing import Any

from tests.support.product import Product


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAnswer:
    """Status, header fields (lower case) and body."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """What the library envelope holds."""
        return json.loads(self.body)["data"]

    @property
    def message(self) -> str:
        """The sentence of an error."""
        return str(json.loads(self.body)["error"]["message"])


@dataclass(frozen=True, slots=True, kw_only=True)
class WireClient:
    """Sends exactly what it is told, over TLS, one connection for each request."""

    product: Product
    token: str = ""
    scheme: str = "Bearer"

    def call(self, method: str, target: str, body: object = None, **fields: str) -> WireAnswer:
        """One request; ``body`` is bytes as they are, or a value sent as JSON without a Content-Type."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"{self.scheme} {self.token}"
        target = target.removeprefix(self.product.base)
        connection = http.client.HTTPSConnection(
            "localhost", self.product.https_port, context=self.product.ssl_context(), timeout=30
        )
        try:
            connection.request(method, target, body=sent, headers=headers)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return WireAnswer(status=answer.status, fields=named, body=answer.read())
        finally:
            connection.close()

    def begin_image(self, entity: str, collection: str, container: str, content: bytes) -> str:
        """Everything up to the bytes; the image's id."""
        digest = hashlib.sha256(content).hexdigest()
        entity_id = self._made("entities", f"v1/entities/{entity}", {"name": entity})
        collection_id = self._made(
            "collections", f"v1/collections/{entity}/{collection}", {"name": collection, "entity": entity_id}
        )
        container_id = self._made(
            "containers",
            f"v1/containers/{entity}/{collection}/{container}",
            {"name": container, "collection": collection_id},
        )
        answer = self.call("POST", "/v1/images", {"hash": f"sha256.{digest}", "container": container_id})
        assert answer.status in {200, 201}, answer
        return str(answer.data["id"])

    def _made(self, kind: str, path: str, value: dict[str, Any]) -> str:
        answer = self.call("GET", f"/{path}")
        if answer.status == 404:
            answer = self.call("POST", f"/v1/{kind}", value)
        assert answer.status in {200, 201}, answer
        return str(answer.data["id"])

    def offer(self, image_id: str, content: bytes) -> str:
        """Announce one body; the URL to put it to."""
        body = {
            "filesize": len(content),
            "sha256sum": hashlib.sha256(content).hexdigest(),
            "md5sum": hashlib.md5(content).hexdigest(),
        }
        answer = self.call("POST", f"/v2/imagefile/{image_id}", body)
        assert answer.status in {200, 201}, answer
        return str(answer.data["uploadURL"])
