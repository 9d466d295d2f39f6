"""Owns how an upload comes into being: the core asked, its limits set, its first bytes taken, or its parts joined."""

from dataclasses import replace
from typing import Final

from gateway.contract import TicketQuestion, container_name_of, parse_collection, parse_name, parse_tag
from gateway.errors import BadForm, BadUpload, BodyTooLarge, GatewayError, Unauthorized
from gateway.http.exchange import ClientExchange
from gateway.http.head import RequestHead
from gateway.http.reply import Reply
from gateway.resumable.append import copy_staged
from gateway.resumable.finish import Finish, answer_of, require_accepted
from gateway.resumable.hold import Holds
from gateway.resumable.ietf import Ietf
from gateway.resumable.receive import Receiving
from gateway.resumable.request import Creation, Dialect
from gateway.resumable.resource import LARGEST_BYTES, USED_KEPT_S, Upload, UploadRecords, new_id
from gateway.store.base import SealedBlob
from gateway.upload.handler import DEFAULT_TAG, UploadResources, smaller_limit

_CHALLENGE: Final = (("www-authenticate", 'Bearer realm="registry"'),)


class Creating:
    """``POST /uploads/``."""

    def __init__(
        self,
        resources: UploadResources,
        records: UploadRecords,
        receiving: Receiving,
        finish: Finish,
        holds: Holds,
    ) -> None:
        self._resources = resources
        self._in_thread = resources.threads.run
        self._records = records
        self._receiving = receiving
        self._finish = finish
        self._holds = holds

    async def create(self, exchange: ClientExchange, head: RequestHead, dialect: Dialect) -> Reply:
        """Raises: Unauthorized, BadForm, BodyTooLarge, StoreFull, CoreRefused, and what the content can do wrong."""
        creation = dialect.read_creation(head)
        if not head.fields.has("authorization") and not head.fields.has("cookie"):
            raise Unauthorized(headers=_CHALLENGE)
        with self._resources.admit(exchange):
            if creation.parts:
                upload = await self._join(exchange, creation)
            else:
                upload = await self._begin(exchange, creation)
                upload = await self._take(exchange, upload, creation, dialect)
        require_accepted(upload)
        return dialect.created(upload)

    async def _begin(self, exchange: ClientExchange, creation: Creation) -> Upload:
        self._refuse_length(creation.length, self._resources.limits.upload_bytes)
        upload = await self._ask(exchange, creation, declared=creation.length)
        self._refuse_length(creation.length, upload.most)
        # Most come without a byte here, and would only hear of it in the next request.
        await self._resources.require_room(creation.length, anew=True)
        return upload

    @staticmethod
    def _refuse_length(length: int | None, most: int) -> None:
        if length is not None and most and length > most:
            raise BodyTooLarge(f"An upload can have at most {most} bytes here.")

    async def _ask(self, exchange: ClientExchange, creation: Creation, *, declared: int | None) -> Upload:
        """A new upload that the core has permitted; nobody knows of it yet."""
        target, fields = creation.target, exchange.head.fields
        if not target.collection:
            raise BadForm(
                "Where to? Name the collection (entity/collection) in Upload-Metadata or in the query string."
            )
        parse_collection(target.collection)
        is_partial = creation.concat == "partial"
        name = parse_name(target.name, "container") if target.name.strip() else ""
        tag = parse_tag(target.tag.strip() or DEFAULT_TAG)
        ticket, token = await self._resources.core.ask(
            TicketQuestion(
                collection=target.collection,
                name="" if is_partial else name,
                tag="" if is_partial else tag,
                declared_bytes=-1 if declared is None else declared,
                authorization=fields.get("authorization"),
                cookie=fields.get("cookie"),
                csrf_token=target.csrf_token,
                client=exchange.peer.address,
            ),
            request_id=exchange.request_id,
        )
        return Upload(
            id=new_id(),
            ticket=token,
            name=ticket.container or name or container_name_of(target.filename),
            tag=tag,
            filename=target.filename,
            description=target.description,
            length=creation.length,
            most=smaller_limit(self._resources.limits.upload_bytes, ticket.max_bytes) or LARGEST_BYTES,
            metadata=creation.metadata,
            concat=creation.concat,
            parts=creation.parts,
            repr_digest=creation.repr_digest,
        )

    async def _take(
        self, exchange: ClientExchange, upload: Upload, creation: Creation, dialect: Dialect
    ) -> Upload:
        # The IETF protocol says by a word of its own that nothing more comes; in tus the length says it.
        made = replace(upload, is_closed=dialect.length_closes)
        upload = await self._in_thread(lambda: self._records.create(made))
        async with self._holds.hold(exchange, upload.id):
            try:
                if isinstance(dialect, Ietf):
                    await exchange.inform(104, dialect.began(upload))
                return await self._receiving.receive(
                    exchange,
                    upload,
                    creation.checks,
                    dialect,
                    closes=creation.closes if dialect.informs else None,
                )
            except GatewayError:
                if not dialect.informs:  # the client was never told where its upload is
                    await self._finish.forget(upload)
                raise

    async def _join(self, exchange: ClientExchange, creation: Creation) -> Upload:
        """A final upload: its parts are copied one behind the other, then it is committed."""
        parts = [await self._part(part) for part in creation.parts]
        total = sum(part.offset for part in parts)
        upload = await self._begin(exchange, replace(creation, length=total))
        sources = tuple((part.id, part.offset) for part in parts)
        sha256, size = await self._in_thread(lambda: copy_staged(self._resources.store, sources, upload.id))
        upload = replace(upload, sha256=sha256, offset=size, is_closed=True)
        await self._in_thread(lambda: self._records.create(upload))
        outcome = await self._finish.commit(
            upload,
            self._finish.ticket_of(upload),
            SealedBlob(staged=upload.id, size=size),
            request_id=exchange.request_id,
        )
        upload = replace(upload, answer=answer_of(outcome))
        return await self._in_thread(lambda: self._keep(upload, parts))

    def _keep(self, upload: Upload, parts: list[Upload]) -> Upload:
        for part in parts:
            self._records.shorten(part, kept_s=USED_KEPT_S)
        return self._records.save(upload)

    async def _part(self, upload_id: str) -> Upload:
        part = await self._in_thread(lambda: self._records.load(upload_id))
        if not part.is_partial or part.answer is None:
            raise BadUpload(f"The upload {upload_id[:8]}… is no partial upload, or is not complete yet.")
        return part
