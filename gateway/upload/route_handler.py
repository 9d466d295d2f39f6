"""Owns the story of an upload route: ask → stream → rewrite → pass on → clean up. For any backend.

What the nginx upload module did, with its promises kept: the backend hears of a form only when every part of it has
arrived and lies in the store, and whatever goes wrong before leaves nothing.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.errors import BodyTooLarge, CoreDown, MethodNotAllowed, UpstreamError
from gateway.http.exchange import ClientExchange
from gateway.http.head import Field, RequestHead
from gateway.http.reply import Reply
from gateway.net.blocks import Block
from gateway.settings_routes import Route
from gateway.upload.disposition import boundary_of
from gateway.upload.form import FormDecoder, FormEvent, PartBegin, PartData, PartEnd
from gateway.upload.handler import UploadResources, size_hint
from gateway.upload.intake import Intake
from gateway.upload.plan import StoredFile, make_plan, must_remove, request_values
from gateway.upload.rewritten import FormSigner, RewrittenForm
from gateway.upload.route_store import RouteStore, new_name
from gateway.upload.route_stores import RouteFiles

# Forms up to this size are read whole; it is what a connection reads ahead anyway.
SMALL_FORM_BYTES: Final = 64 * 1024


class Backend(Protocol):
    """The upstream of a route."""

    async def ask(self, exchange: ClientExchange) -> None:
        """A sub-request with the client's head and no body. Raises: CoreRefused, UpstreamError."""
        ...

    async def pass_form(
        self, exchange: ClientExchange, *, target: str, body: bytes, fields: tuple[Field, ...]
    ) -> int:
        """Send the form and give the client the answer; returns the backend's status, however the client fares.

        Raises: UpstreamError when the backend never gave a status.
        """
        ...

    async def handle(self, exchange: ClientExchange) -> None:
        """Forward a request as it is."""
        ...


@dataclass(slots=True)
class RouteForm:
    """One form on its way through."""

    files: list[Intake] = field(default_factory=list)
    parts: list[PartBegin] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    order: list[tuple[str, bytes] | int] = field(default_factory=list)  # a plain field, or a file's index
    open_name: str | None = None  # "" while a field is skipped
    open_value: bytearray = field(default_factory=bytearray)
    received: int = 0


class RouteUpload:
    """One ``[[routes]]`` table with ``action = "upload"``."""

    def __init__(
        self,
        route: Route,
        resources: UploadResources,
        backend: Backend,
        store: RouteFiles,
        *,
        sign_key: bytes,
    ) -> None:
        self._route = route
        self._resources = resources
        self._backend = backend
        self._signer = FormSigner(sign_key)
        self._plan = make_plan(route)
        self._store = store
        self._small_files = store if isinstance(store, RouteStore) else None

    async def handle(self, exchange: ClientExchange) -> None:
        """Raises: what a client, the store or the backend can do wrong."""
        head = exchange.head
        if head.method not in {"POST", "PUT"}:
            await self._handle_other(exchange)
            return
        boundary = boundary_of(head)
        self._refuse_early(head)
        with self._resources.admit(exchange):
            if self._route.auth_url:
                await self._backend.ask(exchange)
            await self._resources.require_room(head.content_length, self._store)
            form = RouteForm()
            status: int | None = None
            try:
                await self._stream(exchange, form, boundary)
                status = await self._pass_on(exchange, form)
            except UpstreamError as error:
                # It has the form, or may have it: then its files are its own, unless the route says otherwise.
                status = None if isinstance(error, CoreDown) else error.status
                raise
            finally:
                if must_remove(self._route, status=status):
                    for intake in form.files:
                        await asyncio.shield(intake.discard())

    async def _handle_other(self, exchange: ClientExchange) -> None:
        if exchange.head.method == "OPTIONS":
            await exchange.reply(Reply(status=204, fields=(("allow", "POST, PUT, OPTIONS"),)))
        elif self._route.other_methods == "forward":
            await self._backend.handle(exchange)
        else:
            raise MethodNotAllowed(headers=(("allow", "POST, PUT, OPTIONS"),))

    def _refuse_early(self, head: RequestHead) -> None:
        limit = self._route.max_total_bytes
        if limit and (head.content_length or 0) > limit:
            raise BodyTooLarge(f"A form may have at most {limit} bytes here.")

    async def _stream(self, exchange: ClientExchange, form: RouteForm, boundary: bytes) -> None:
        decoder = FormDecoder(boundary, self._plan.limits)
        started = time.monotonic()
        length = exchange.body.left
        if length is not None and length <= SMALL_FORM_BYTES:
            # So little is cheaper taken whole than by blocks.
            content = await exchange.body.read(length)
            form.received = length
            for event in decoder.feed(content, 0, length):
                if not self._note(exchange, form, event, length):
                    await _take(form, event, None)
            await self._keep_rate(form, started)
        else:
            await self._stream_blocks(exchange, form, decoder, started)
        decoder.finish()
        for intake in form.files:
            await intake.finish()

    async def _stream_blocks(
        self, exchange: ClientExchange, form: RouteForm, decoder: FormDecoder, started: float
    ) -> None:
        async with aclosing(exchange.body.blocks(self._resources.pool)) as blocks:
            async for block, ranges in blocks:
                for start, end in ranges:
                    form.received += end - start
                    for event in decoder.feed(block.buffer, start, end):
                        if not self._note(exchange, form, event, block.filled):
                            await _take(form, event, block)
                await self._keep_rate(form, started)

    async def _keep_rate(self, form: RouteForm, started: float) -> None:
        rate = self._route.max_rate
        if rate and (early_s := started + form.received / rate - time.monotonic()) > 0:
            await asyncio.sleep(early_s)

    def _note(self, exchange: ClientExchange, form: RouteForm, event: FormEvent, received: int) -> bool:
        """Take note of all that is no file's content, among ``received`` bytes. False for what is."""
        match event:
            case PartData() if form.open_name is None:
                return False
            case PartData(data):
                if form.open_name:
                    form.open_value += data
            case PartBegin() if event.is_file:
                self._begin_file(form, event, size_hint(exchange, received))
            case PartBegin(name=name, no_file_chosen=no_file):
                form.open_name = "" if no_file or not self._plan.passes(name) else name
                form.open_value.clear()
            case PartEnd() if form.open_name is not None:
                if form.open_name:
                    form.order.append((form.open_name, bytes(form.open_value)))
                form.open_name = None
            case _:
                pass
        return True

    def _begin_file(self, form: RouteForm, part: PartBegin, hint: int | None) -> None:
        name = new_name()
        intake = Intake(
            self._store,
            self._resources.threads,
            staged=name,
            size_hint=hint,
            max_bytes=self._route.max_file_bytes,
            digests=self._plan.digests,
            small_files=self._small_files,
        )
        form.order.append(len(form.files))
        form.files.append(intake)
        form.parts.append(part)
        form.names.append(name)

    async def _pass_on(self, exchange: ClientExchange, form: RouteForm) -> int:
        head, peer = exchange.head, exchange.peer
        values = request_values(
            self._plan, head, client=peer.address, scheme=peer.scheme, request_id=exchange.request_id
        )
        rewritten = RewrittenForm(self._plan, values)
        for entry in form.order:
            if isinstance(entry, int):
                received = await form.files[entry].seal()
                path = self._store.path_of(form.names[entry])
                stored = StoredFile(path=path, size=received.size, digests=received.digests)
                rewritten.add_file(form.parts[entry], stored)
            else:
                rewritten.add_field(*entry)
        encoded = rewritten.encode()
        target = self._route.pass_to or head.path
        if head.query and (self._route.pass_args or not self._route.pass_to):
            query = self._plan.passed_query(head.query)
            target = f"{target}?{query}" if query else target
        signature = self._signer.sign(encoded, method="POST", target=target, now=time.time())
        fields = (("content-type", encoded.content_type), signature)
        return await self._backend.pass_form(exchange, target=target, body=encoded.body, fields=fields)


async def _take(form: RouteForm, event: FormEvent, block: Block | None) -> None:
    if isinstance(event, PartData) and form.files:
        await form.files[-1].take(event.data, block)
