"""Owns the story of a web upload: ask → stream → commit → tell → answer.

The core is asked before the first byte of a file is read, and before ``100 Continue`` where the query string and the
headers say enough. Nothing becomes visible before the whole form has arrived.
"""

import secrets
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol
from urllib.parse import parse_qs

from gateway.contract import (
    Commit,
    CommittedImage,
    Ticket,
    TicketQuestion,
    container_name_of,
    parse_collection,
    parse_name,
    parse_tag,
)
from gateway.core_api import CommittedReference, CoreApi
from gateway.errors import BadForm, BodyTooLarge, StoreFull, TooManyRequests, Unauthorized
from gateway.http.exchange import ClientExchange
from gateway.http.head import RequestHead
from gateway.http.reply import Reply, json_reply, redirect
from gateway.net.blocks import Block, BlockPool
from gateway.outbox import Committed, Outbox, Pending
from gateway.outbox_records import Delivery, Placement
from gateway.settings import Limits
from gateway.store.base import BlobStore, DistantStore
from gateway.store.keys import blob_key
from gateway.tally import Count, Kind, Tally
from gateway.upload.disposition import boundary_of
from gateway.upload.form import FormDecoder, FormEvent, FormLimits, PartBegin, PartData, PartEnd
from gateway.upload.intake import Intake, Received
from gateway.upload.progress import ProgressBoard
from gateway.upload.threads import UploadThreads

DEFAULT_TAG: Final = "latest"
ROOM_CHECK_BYTES: Final = 1024 * 1024  # smaller uploads find out while they are written


class Roomy(Protocol):
    """Where files go."""

    def free_bytes(self) -> int | None:
        """Room for new files, None = not known."""
        ...


@dataclass(slots=True)
class UploadResources:
    """What uploads share within one process. ``running`` counts those of all processes."""

    store: BlobStore
    pool: BlockPool
    threads: UploadThreads
    core: CoreApi
    outbox: Outbox
    limits: Limits
    board: ProgressBoard
    running: Count = field(default_factory=lambda: Tally.alone().count(Kind.UPLOADS))

    @contextmanager
    def admit(self, exchange: ClientExchange) -> Iterator[None]:
        """A place among the uploads that run, held for the block. Raises: TooManyRequests."""
        if self.running.total >= self.limits.uploads:
            raise TooManyRequests("Too many uploads are running. Try again in a minute.", retry_after_s=60)
        self.running.change(1)
        self.board.add(exchange)
        try:
            yield
        finally:
            self.running.change(-1)
            self.board.remove(exchange)

    async def require_room(
        self, declared: int | None, store: "Roomy | None" = None, *, anew: bool = False
    ) -> None:
        """Refuse what cannot be taken before its first byte, and what a store that is away would refuse later.

        ``anew`` asks that even of one which answered a moment ago, and not only for large files.
        Raises: StoreFull, StoreDown.
        """
        store = store or self.store
        is_small = declared is not None and declared < ROOM_CHECK_BYTES
        if isinstance(store, DistantStore):
            ask = partial(store.require_up, anew=anew or not is_small)
            await self.threads.run(ask)
        if declared and not is_small:
            free = await self.threads.run(store.free_bytes)
            if free is not None and declared > free:
                raise StoreFull(detail=f"{declared} bytes announced, {free} bytes free")


@dataclass(slots=True)
class Form:
    """What is known of the form so far; ``files`` in order of arrival, the last one may still be open."""

    fields: dict[str, list[str]]
    files: list["FormFile"] = field(default_factory=list)
    ticket: Ticket | None = None
    token: str = ""
    open_field: str | None = None
    open_value: bytearray = field(default_factory=bytearray)

    def first(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        values = self.fields.get(name)
        return values[0] if values else default

    def most(self, ticket: Ticket) -> int:
        """The most bytes of the next file, 0 = no limit. What the spool gave is for all files together."""
        if ticket.kind != "spooled":
            return ticket.max_bytes
        return max(1, ticket.max_bytes - sum(file.intake.size for file in self.files))


@dataclass(slots=True)
class FormFile:
    """One file of the form."""

    filename: str
    intake: Intake
    received: Received | None = None


class WebUpload:
    """``POST /upload``."""

    def __init__(self, resources: UploadResources) -> None:
        self._resources = resources

    async def handle(self, exchange: ClientExchange) -> None:
        """Raises: what a client, the core or the store can do wrong; nothing is left behind then."""
        head = exchange.head
        boundary = boundary_of(head)
        self._refuse_early(head)
        with self._resources.admit(exchange):
            await self._resources.require_room(head.content_length)
            form = Form(fields=_fields_of_query(head, most=self._resources.limits.form_fields))
            try:
                delivery = await self._receive(exchange, form, boundary)
                outcome = await self._resources.outbox.commit(
                    delivery, request_id=exchange.request_id, may_wait_for_store=True
                )
            finally:
                if form.ticket is not None:
                    self._resources.core.settle(form.ticket)
        await exchange.reply(reply_to(outcome, as_html=head.wants_html))

    async def _receive(self, exchange: ClientExchange, form: Form, boundary: bytes) -> Delivery:
        try:
            if form.first("collection") and (
                exchange.head.fields.has("authorization") or form.first("csrf_token")
            ):
                await self._ask(exchange, form)
            await self._stream(exchange, form, boundary)
            return await self._prepare(form)
        except BaseException:
            for file in form.files:
                await file.intake.discard()
            raise

    def _refuse_early(self, head: RequestHead) -> None:
        if not head.fields.has("authorization") and not head.fields.has("cookie"):
            raise Unauthorized(headers=(("www-authenticate", 'Bearer realm="registry"'),))
        limit = self._resources.limits.upload_bytes
        most = limit * self._resources.limits.form_files + self._most_around()
        if limit and (head.content_length or 0) > most:
            raise BodyTooLarge(f"A file may have at most {limit} bytes here.")

    def _most_around(self) -> int:
        limits = self._resources.limits
        return (limits.form_fields + limits.form_files) * (limits.form_field_bytes + limits.part_header_bytes)

    async def _ask(self, exchange: ClientExchange, form: Form) -> None:
        if not form.first("collection"):
            raise BadForm(
                "The collection is not known before the first file: send the field 'collection' (entity/collection)"
                " before it, or in the query string."
            )
        parse_collection(form.first("collection"))
        fields = exchange.head.fields
        form.ticket, form.token = await self._resources.core.ask(
            TicketQuestion(
                collection=form.first("collection"),
                name=form.first("name"),
                tag=form.first("tag"),
                declared_bytes=-1 if exchange.head.content_length is None else exchange.head.content_length,
                authorization=fields.get("authorization"),
                cookie=fields.get("cookie"),
                csrf_token=form.first("csrf_token"),
                client=exchange.peer.address,
            ),
            request_id=exchange.request_id,
        )

    async def _stream(self, exchange: ClientExchange, form: Form, boundary: bytes) -> None:
        limits = self._resources.limits
        decoder = FormDecoder(
            boundary,
            FormLimits(
                fields=limits.form_fields,
                files=limits.form_files,
                field_bytes=limits.form_field_bytes,
                header_bytes=limits.part_header_bytes,
            ),
        )
        async with aclosing(exchange.body.blocks(self._resources.pool)) as blocks:
            async for block, ranges in blocks:
                for start, end in ranges:
                    for event in decoder.feed(block.buffer, start, end):
                        await self._take(exchange, form, event, block)
        decoder.finish()

    async def _take(self, exchange: ClientExchange, form: Form, event: FormEvent, block: Block) -> None:
        match event:
            case PartData(data) if form.open_field is None:
                if form.files:
                    await form.files[-1].intake.take(data, block)
            case PartData(data):
                form.open_value += data
            case PartBegin() if event.is_file:
                await self._begin_file(exchange, form, event, block)
            case PartBegin(name=name):
                form.open_field = name
                form.open_value.clear()
            case PartEnd() if form.open_field is not None:
                value = form.open_value.decode("utf-8", "replace")
                form.fields.setdefault(form.open_field, []).append(value)
                form.open_field = None
            case _:
                pass

    async def _begin_file(self, exchange: ClientExchange, form: Form, part: PartBegin, block: Block) -> None:
        if form.ticket is None:
            await self._ask(exchange, form)
        assert form.ticket is not None  # noqa: S101 - asked, or refused by an exception
        intake = Intake(
            self._resources.store,
            self._resources.threads,
            staged=f"{form.ticket.id}-{secrets.token_hex(4)}",
            size_hint=size_hint(exchange, block.filled),
            max_bytes=smaller_limit(self._resources.limits.upload_bytes, form.most(form.ticket)),
        )
        form.files.append(FormFile(filename=part.filename or "", intake=intake))

    async def _prepare(self, form: Form) -> Delivery:
        if form.ticket is None or not form.files:
            raise BadForm("The form has no file: choose a file, or send one as 'file=@image.sif'.")
        ticket = form.ticket
        names = _names(form, ticket)
        tag = parse_tag(form.first("tag").strip() or DEFAULT_TAG)
        for file in form.files:
            file.received = await file.intake.seal()
        images, placements = [], []
        for file, name in zip(form.files, names, strict=True):
            received = file.received
            assert received is not None  # noqa: S101 - sealed above
            images.append(
                CommittedImage(
                    sha256=received.sha256,
                    size=received.size,
                    name=name,
                    tag=tag,
                    filename=file.filename,
                    description=form.first("description"),
                )
            )
            placements.append(make_placement(ticket, name, received))
        commit = Commit(ticket=form.token, images=tuple(images))
        return Delivery(ticket_id=ticket.id, commit=commit, placements=tuple(placements))


def _fields_of_query(head: RequestHead, *, most: int) -> dict[str, list[str]]:
    try:
        return parse_qs(head.query, keep_blank_values=True, max_num_fields=most)
    except ValueError as exc:
        raise BadForm(f"The query string has more than {most} fields.") from exc


def _names(form: Form, ticket: Ticket) -> list[str]:
    """The container of each file: the form's own names, one for each file or one for all, else the files' names."""
    if ticket.container:
        return [ticket.container] * len(form.files)
    given = [name for name in form.fields.get("name", []) if name.strip()]
    if not given:
        return [container_name_of(file.filename) for file in form.files]
    if len(given) == 1:
        given *= len(form.files)
    if len(given) != len(form.files):
        raise BadForm(f"The form has {len(form.files)} files and {len(given)} names.")
    return [parse_name(name, "container") for name in given]


def make_placement(ticket: Ticket, container: str, received: Received) -> Placement:
    """Where a received file goes."""
    return Placement(
        staged=received.sealed.staged,
        size=received.size,
        sha256=received.sha256,
        key=blob_key(ticket.entity, ticket.collection, container, received.sha256),
    )


def size_hint(exchange: ClientExchange, received: int) -> int | None:
    """The most bytes that a file can have which begins within the last ``received`` ones; None if chunked."""
    return None if exchange.body.left is None else exchange.body.left + received


def smaller_limit(one: int, other: int) -> int:
    """The smaller of two limits in bytes, of which 0 means none."""
    return min(one, other) if one and other else one or other


def reply_to(outcome: Committed | Pending, *, as_html: bool) -> Reply:
    """The answer to an upload. A browser is led to the image; while the core is away, to the upload's status."""
    match outcome:
        case Committed(images=images):
            if as_html:
                return redirect(303, images[0].url)
            return json_reply(201, images_value(images), ("location", images[0].url))
        case Pending(status_path=path):
            if as_html:
                return redirect(303, path)
            return json_reply(202, {"data": {"status": "pending", "url": path}}, ("location", path))


def images_value(images: tuple[CommittedReference, ...]) -> dict[str, object]:
    """The contract's JSON for uploaded images."""
    listed = [{"ref": i.ref, "sha256": i.sha256, "size": i.size, "url": i.url} for i in images]
    return {"data": {"images": listed}}
