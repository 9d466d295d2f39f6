"""Owns a real HTTP/2 client for tests: TLS, ALPN, and the h2 library on the client's side."""

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from gateway.net.dev_ca import self_signed
from gateway.net.frames import GOAWAY
from gateway.net.tls import Policy, make_context

type Fields = Iterable[tuple[str, str]]


@cache
def server_tls() -> ssl.SSLContext:
    """A listener's context that offers HTTP/2."""
    return make_context(self_signed(("localhost",)), Policy(alpn=("h2", "http/1.1")))


def client_tls(*protocols: str) -> ssl.SSLContext:
    """A client's context that trusts anybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


@dataclass
class Answer:
    """What came on one stream."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    informed: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    is_over: bool = False
    reset: int | None = None


class Http2Client:
    """One connection. ``takes_content``: answers' windows are opened again as they come."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, conn: H2Connection
    ) -> None:
        self.reader, self.writer, self.h2 = reader, writer, conn
        self.answers: dict[int, Answer] = {}
        self.went_away: int | None = None
        self.is_closed = False
        self.takes_content = True
        self.pongs = 0
        self.changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        """Bytes that h2 would not send."""
        await self.flush()
        self.writer.write(data)
        await self.writer.drain()

    async def ping(self) -> None:
        """A ping and its answer: the server has seen all that was sent before."""
        self.pongs = 0
        self.h2.ping(b"are you?")
        await self.flush()
        await self.until(lambda: self.pongs)

    async def _read(self) -> None:
        try:
            data = bytearray()
            while more := await self.reader.read(1 << 18):
                data += more
                while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3])):
                    self._take_frame(bytes(data[:size]))
                    del data[:size]
                await self.flush()
                self._tell()
        except (OSError, ssl.SSLError):
            pass
        finally:
            self.is_closed = True
            self._tell()

    def _take_frame(self, frame: bytes) -> None:
        if frame[3] == GOAWAY:  # after one h2 would take nothing more, not even what was asked for before
            self.went_away = int.from_bytes(frame[13:17])
            return
        for event in self.h2.receive_data(frame):
            self._take(event)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _take(self, event: Event) -> None:
        match event:
            case InformationalResponseReceived():
                fields = _strings(event.headers)
                self._of(event.stream_id).informed.append((int(fields.pop(":status")), fields))
            case ResponseReceived():
                answer = self._of(event.stream_id)
                answer.fields = _strings(event.headers)
                answer.status = int(answer.fields.pop(":status"))
            case DataReceived():
                self._of(event.stream_id).body += event.data
                if self.takes_content and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case TrailersReceived():
                self._of(event.stream_id).trailers = _strings(event.headers)
            case StreamEnded():
                self._of(event.stream_id).is_over = True
            case StreamReset():
                self._of(event.stream_id).reset = int(event.error_code)
            case PingAckReceived(ping_data=b"are you?"):
                self.pongs += 1
            case _:
                pass

    def _of(self, stream_id: int | None) -> Answer:
        assert stream_id is not None
        return self.answers.setdefault(stream_id, Answer())

    async def until(self, check: object) -> None:
        """Wait until ``check()`` holds."""
        assert callable(check)
        async with asyncio.timeout(15):
            while not check():
                if self.is_closed:
                    raise ConnectionError(f"closed; went away: {self.went_away!r}")
                await self.changed.wait()

    async def gone(self) -> int | None:
        """Wait for the end of the connection; returns the code of its GOAWAY."""
        async with asyncio.timeout(15):
            while not self.is_closed:
                await self.changed.wait()
        return self.went_away

    async def begin(self, method: str, path: str, *fields: tuple[str, str], ends: bool = False) -> int:
        """Send a head; returns the stream."""
        head = [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path), *fields]
        return await self.begin_with(head, ends=ends)

    async def begin_with(self, head: Fields, *, ends: bool = True) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, list(head), end_stream=ends)
        await self.flush()
        return stream_id

    async def send(
        self, stream_id: int, data: bytes, *, ends: bool = False, padded: int | None = None
    ) -> None:
        """Send content, as the windows allow."""
        view = memoryview(data)
        answer = self.answers[stream_id]
        around = 0 if padded is None else padded + 1
        while view:
            await self.until(lambda: answer.reset is not None or self._room(stream_id) > around)
            if answer.reset is not None:
                raise ConnectionResetError(answer.reset)
            size = min(len(view), self._room(stream_id) - around)
            self.h2.send_data(stream_id, bytes(view[:size]), end_stream=False, pad_length=padded)
            view = view[size:]
            await self.flush()
        if ends:
            self.h2.end_stream(stream_id)
            await self.flush()

    def _room(self, stream_id: int) -> int:
        return min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)

    async def answer(self, stream_id: int) -> Answer:
        """The whole answer, or how far it came before it was reset."""
        answer = self.answers[stream_id]
        await self.until(lambda: answer.is_over or answer.reset is not None)
        return answer

    async def ask(self, method: str, path: str, *fields: tuple[str, str], body: bytes = b"") -> Answer:
        """One request and its answer."""
        stream_id = await self.begin(method, path, *fields, ends=not body)
        if body:
            try:
                await self.send(stream_id, body, ends=True)
            except ConnectionResetError:
                pass
        return await self.answer(stream_id)

    async def close(self) -> None:
        self.writer.transport.abort()
        await self._task


def _strings(headers: Iterable[tuple[object, object]] | None) -> dict[str, str]:
    def text(value: object) -> str:
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    return {text(name): text(value) for name, value in headers or ()}


async def connect(port: int) -> Http2Client:
    """A new connection, its preface sent. Outgoing fields are not checked: tests send bad ones."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_tls("h2"), server_hostname="localhost"
    )
    tls = writer.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() == "h2"
    conn = H2Connection(
        H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    conn.initiate_connection()
    client = Http2Client(reader, writer, conn)
    await client.flush()
    return client
