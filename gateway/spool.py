"""Owns uploads for a core that is away: who may begin one, and how much may wait. Off unless the settings say so.

The gateway remembers for a while whom the core allowed to upload where. While the core is away, or the registry is
closed, it writes tickets for those itself. The core looks at everything anew when it is told of the bytes: the
ticket names the credential by which it was given.
"""

import asyncio
import dataclasses
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.contract import Ticket, TicketQuestion, parse_collection, seal
from gateway.errors import BadForm, CoreDown
from gateway.maintenance import MaintenanceSwitch, is_let_through, parse_networks
from gateway.outbox_records import OutboxFolder
from gateway.settings import Settings

_MOST_KNOWN: Final = 10_000
_RESERVED_S: Final = 600.0  # an upload that takes longer is counted again when it waits
_SHARE: Final = 4  # who does not say how much will come gets this part of the room, and it is taken whole
_FULL: Final = "The registry is down for maintenance, and no more uploads can wait for it. Try again later."


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the core granted, and until when we rely on it (monotonic seconds)."""

    ticket: Ticket
    credential: str
    until: float


class Spool:
    """Remembers the core's permissions, and stands in for it. Each process has its own memory."""

    def __init__(
        self,
        settings: Settings,
        secret: bytes,
        switch: MaintenanceSwitch,
        *,
        clock: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.take(settings)
        self._secret = secret
        self._switch = switch
        self._waiting = OutboxFolder(Path(settings.data_dir) / "outbox").waiting
        self._clock = clock
        self._epoch = epoch
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._reserved: dict[str, tuple[float, int]] = {}

    def take(self, settings: Settings) -> None:
        """Newly read settings; who is known stays known."""
        self._limits = settings.maintenance
        self._admin_allow = parse_networks(settings.server.admin_allow)

    def stands_in_for(self, client: str) -> bool:
        """Whether the core is not even to be asked: the registry is closed to this address."""
        state = self._switch.current()
        return (
            state is not None
            and state.mode == "full"
            and not is_let_through(client, state, admin_allow=self._admin_allow)
        )

    def remember(self, question: TicketQuestion, ticket: Ticket, credential: str) -> None:
        """The core allowed it."""
        key = self._key(question)
        if key is None or not credential:
            return
        until = self._clock() + self._limits.spool_known_s
        self._known[key] = Known(ticket=ticket, credential=credential, until=until)
        self._known.move_to_end(key)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def forget(self, question: TicketQuestion) -> None:
        """The core refused it."""
        key = self._key(question)
        if key is not None:
            self._known.pop(key, None)

    async def stand_in(self, question: TicketQuestion) -> tuple[Ticket, str]:
        """A ticket of our own, opened, and as it is sent. Raises: CoreDown for strangers, and when no more fits."""
        key = self._key(question)
        known = None if key is None else self._known.get(key)
        if known is None or known.until < self._clock():
            raise CoreDown(detail="nobody that the spool knows")
        declared = question.declared_bytes
        left = await self._room(max(0, declared))
        room = left if declared >= 0 else max(1, left // _SHARE)
        most = min(known.ticket.max_bytes, room) if known.ticket.max_bytes else room
        ticket = dataclasses.replace(
            known.ticket,
            kind="spooled",
            id=secrets.token_hex(16),
            credential=known.credential,
            max_bytes=most,
            expires=int(self._epoch() + self._limits.spool_age_s),
        )
        self._reserved[ticket.id] = (self._clock(), declared if declared >= 0 else most)
        return ticket, seal(self._secret, ticket)

    def settle(self, ticket: Ticket) -> None:
        """The upload is over: what waits of it is counted where it waits, and one that failed takes no room."""
        self._reserved.pop(ticket.id, None)

    async def _room(self, wanted: int) -> int:
        """Bytes that may still wait. Raises: CoreDown."""
        waiting = await asyncio.to_thread(self._waiting)
        gone = self._clock() - _RESERVED_S
        self._reserved = {
            upload: held
            for upload, held in self._reserved.items()
            if held[0] > gone and upload not in waiting
        }
        count = len(waiting) + len(self._reserved)
        size = sum(waiting.values()) + sum(reserved for _, reserved in self._reserved.values())
        left = self._limits.spool_bytes - size
        if count >= self._limits.spool_uploads or left <= 0 or wanted > left:
            raise CoreDown(_FULL, detail=f"the spool holds {count} uploads of {size} bytes")
        return left

    def _key(self, question: TicketQuestion) -> bytes | None:
        """Who and where; never the secrets themselves."""
        if not question.collection:
            return None
        try:
            place = "/".join(parse_collection(question.collection))
        except BadForm:
            return None
        said = (question.authorization, question.cookie, question.csrf_token, place)
        return hmac.digest(self._secret, "\0".join(("spool", *said)).encode("utf-8", "replace"), "sha256")
