"""Owns the answer to "what became of my upload?", for uploads that were taken while the core was away."""

import asyncio
import html
import re
from typing import Final

from gateway.errors import CoreRefused, NotFound
from gateway.http.exchange import ClientExchange
from gateway.http.head import Field
from gateway.http.reply import Reply, json_reply, redirect
from gateway.outbox import Committed, Outbox, Pending, Refused
from gateway.upload.handler import images_value

_ID: Final = re.compile(r"[0-9a-f-]{16,64}")
_NO_STORE: Final[Field] = ("cache-control", "no-store")
RETRY_S: Final = 5


class UploadStatus:
    """``GET /v2/uploads/ID``. The id is as hard to guess as a password and says nothing but this."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def handle(self, exchange: ClientExchange, upload_id: str) -> None:
        """202 while it waits, 200 with the images (a browser is led to the image), the core's refusal, or 404.

        Raises: NotFound, CoreRefused.
        """
        if not _ID.fullmatch(upload_id):
            raise NotFound
        outcome = await asyncio.to_thread(self._outbox.status, upload_id)
        as_html = exchange.head.wants_html
        match outcome:
            case None:
                raise NotFound("No such upload is known.")
            case Committed(images=images):
                reply = (
                    redirect(303, images[0].url)
                    if as_html
                    else json_reply(200, images_value(images), _NO_STORE)
                )
            case Pending(status_path=path):
                reply = _waiting(path, as_html=as_html)
            case Refused(status=status, message=message):
                raise CoreRefused(status, message)
        await exchange.reply(reply)


def _waiting(path: str, *, as_html: bool) -> Reply:
    if not as_html:
        value = {"data": {"status": "pending", "url": path}}
        return json_reply(202, value, _NO_STORE, ("retry-after", str(RETRY_S)))
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta http-equiv=refresh content={RETRY_S}>"
        "<meta name=viewport content='width=device-width,initial-scale=1'><title>Upload received</title>"
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;"
        "margin:15vh auto;padding:0 1rem}</style><h1>Your upload has arrived</h1>"
        "<p>It is stored safely. The registry is being upgraded and will list it as soon as it is back; this page"
        f" goes on by itself.</p><p><a href='{html.escape(path)}'>Look again now</a></p></html>"
    )
    return Reply(
        status=202, fields=(("content-type", "text/html; charset=utf-8"), _NO_STORE), body=page.encode()
    )
