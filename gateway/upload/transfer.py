"""Owns the bytes of a library push: one body for one ticket, or one part of a file that comes in parts."""

import secrets
import time
from contextlib import aclosing

from gateway.contract import (
    SHA256_HEX,
    TRANSFER_PREFIX,
    Commit,
    CommittedImage,
    Ticket,
    TicketQuestion,
    open_ticket,
)
from gateway.errors import BadForm, DigestMismatch, LengthMismatch, NotFound, Unauthorized
from gateway.http.exchange import ClientExchange
from gateway.http.head import RequestHead
from gateway.http.reply import Reply
from gateway.outbox_records import Delivery
from gateway.upload.handler import UploadResources, make_placement, smaller_limit
from gateway.upload.intake import Intake, Received
from gateway.upload.parts import PartsIntake


class Transfer:
    """``PUT /v2/transfers/TICKET`` and, for clients before the v2 protocol, ``POST /v1/imagefile/ID``."""

    def __init__(self, resources: UploadResources, parts: PartsIntake, secret: bytes) -> None:
        self._resources = resources
        self._parts = parts
        self._secret = secret

    async def handle_put(self, exchange: ClientExchange) -> None:
        """The ticket in the URL was signed by the core when it granted the push; it is the permission.

        Raises: NotFound (ticket), LengthMismatch, DigestMismatch, BodyTooLarge, what body, store and core raise.
        """
        token = exchange.head.path.removeprefix(TRANSFER_PREFIX)
        ticket = open_ticket(self._secret, token, now=time.time())
        with self._resources.admit(exchange):
            match ticket.kind:
                case "image":
                    await self._take_image(exchange, ticket, token)
                case "part":
                    await self._take_part(exchange, ticket, token)
                case "web" | "spooled":
                    raise NotFound

    async def handle_legacy(self, exchange: ClientExchange) -> None:
        """The old one-call push: the core is asked here, with the client's own credentials."""
        fields = exchange.head.fields
        if not fields.has("authorization"):
            raise Unauthorized(headers=(("www-authenticate", 'Bearer realm="registry"'),))
        with self._resources.admit(exchange):
            ticket, token = await self._resources.core.ask(
                TicketQuestion(
                    image_id=legacy_image_id(exchange.head.path),
                    declared_bytes=-1
                    if exchange.head.content_length is None
                    else exchange.head.content_length,
                    authorization=fields.get("authorization"),
                    client=exchange.peer.address,
                ),
                request_id=exchange.request_id,
            )
            await self._take_image(exchange, ticket, token)

    async def _take_image(self, exchange: ClientExchange, ticket: Ticket, token: str) -> None:
        expected = _expected_digest(exchange.head, ticket.sha256)
        check_declared(exchange.head, ticket.size)
        await self._resources.require_room(exchange.head.content_length)
        intake = Intake(
            self._resources.store,
            self._resources.threads,
            staged=f"{ticket.id}-{secrets.token_hex(4)}",
            size_hint=exchange.head.content_length,
            max_bytes=smaller_limit(self._resources.limits.upload_bytes, ticket.max_bytes),
        )
        try:
            async with aclosing(exchange.body.blocks(self._resources.pool)) as blocks:
                async for block, ranges in blocks:
                    for start, end in ranges:
                        await intake.take(block.view[start:end], block)
            check_length(intake.size, ticket.size)
            received = await intake.seal()
            for promised in expected:
                check_digest(received.sha256, promised)
        except BaseException:
            await intake.discard()
            raise
        await self._commit(exchange, ticket, token, received)
        await exchange.reply(_stored(received.sha256))

    async def _take_part(self, exchange: ClientExchange, ticket: Ticket, token: str) -> None:
        expected = _expected_digest(exchange.head, ticket.part_sha256)
        offset = (ticket.part_number - 1) * ticket.part_size
        length = min(ticket.part_size, ticket.size - offset)
        if length < 0 or (length == 0 and ticket.size):
            raise BadForm(f"There is no part {ticket.part_number} in {ticket.size} bytes.")
        check_declared(exchange.head, length)
        digest = await self._parts.take(exchange, ticket, offset=offset, length=length, expected=expected)
        received = await self._parts.complete(ticket)
        if received is not None:
            if ticket.sha256 and received.sha256 != ticket.sha256:
                await self._parts.forget(ticket)
                check_digest(received.sha256, ticket.sha256)
            await self._commit(exchange, ticket, token, received)
            await self._parts.forget(ticket)
        await exchange.reply(_stored(digest))

    async def _commit(self, exchange: ClientExchange, ticket: Ticket, token: str, received: Received) -> None:
        # Pending is fine for a 200: it says that the bytes are stored, and the core learns of them before it
        # is asked anything else.
        image = CommittedImage(sha256=received.sha256, size=received.size)
        delivery = Delivery(
            ticket_id=ticket.id,
            commit=Commit(ticket=token, images=(image,)),
            placements=(make_placement(ticket, ticket.container, received),),
        )
        await self._resources.outbox.commit(delivery, request_id=exchange.request_id)


def legacy_image_id(path: str) -> str:
    """The image's id in the path of a one-call push. Old clients double slashes, and some end with one."""
    return path.rstrip("/").rpartition("/")[2]


def _stored(digest: str) -> Reply:
    # Exactly 200 (library-protocol: fact 8); the client hands the ETag of a part back at the end.
    return Reply(status=200, fields=(("etag", f'"{digest}"'),))


def _expected_digest(head: RequestHead, promised: str) -> tuple[str, ...]:
    """Every digest that the content was promised to have: by the ticket, and by the client in this request."""
    said = head.fields.get("x-amz-content-sha256").lower()
    return tuple(digest for digest in (promised, said) if SHA256_HEX.fullmatch(digest))


def check_declared(head: RequestHead, size: int) -> None:
    """Refuse a wrong length before its first byte. Raises: LengthMismatch."""
    declared = head.content_length
    if declared is not None and size >= 0 and declared != size:
        raise LengthMismatch(f"{size} bytes were promised and {declared} are announced.")


def check_length(size: int, promised: int) -> None:
    """``promised`` below 0 is no promise. Raises: LengthMismatch."""
    if promised >= 0 and size != promised:
        raise LengthMismatch(f"{promised} bytes were promised and {size} arrived.")


def check_digest(sha256: str, promised: str) -> None:
    """Raises: DigestMismatch."""
    if sha256 != promised:
        raise DigestMismatch(
            f"The bytes that arrived have the SHA-256 {sha256}, promised was {promised}. They were not kept;"
            " push again."
        )
