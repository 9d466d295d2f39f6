"""Owns the h2 library: HPACK, the states of streams, the client's windows. Its events and errors become ours here.

h2 is told of everything but content, and so does not count what clients send: ``net/windows.py`` does. Import this
module only where HTTP/2 is on.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged, RequestReceived, StreamReset, TrailersReceived, WindowUpdated
from h2.exceptions import FlowControlError, ProtocolError
from h2.settings import SettingCodes, Settings

from gateway.errors import ClientGone
from gateway.net.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    WINDOW_UPDATE,
    Frame,
    frame,
    frame_head,
)

# What a client lets us remember of our own answers' fields: it may allow 4 GiB, and each answer has new values.
ENCODER_TABLE_BYTES: Final = 4096

type EncodedFields = list[tuple[bytes, bytes]]


class Code(enum.IntEnum):
    """Why a stream or connection ends early (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    ENHANCE_YOUR_CALM = 0xB


class Broken(Exception):
    """The client broke the protocol. ``is_told``: the output says so already."""

    def __init__(self, code: int, *, is_told: bool, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.is_told = is_told


@dataclass(frozen=True, slots=True)
class Requested:
    """A request's head is here. Not ``has_body``: nothing follows."""

    stream_id: int
    fields: EncodedFields
    has_body: bool


@dataclass(frozen=True, slots=True)
class Trailed:
    """The content ended with trailers."""

    stream_id: int
    fields: EncodedFields


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A stream was reset: by the client, or for what it did."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Widened:
    """There may be room to send. ``stream_id`` 0: for every stream."""

    stream_id: int


type WireEvent = Requested | Trailed | Cancelled | Widened


class Wire:
    """One connection's protocol state, and what it wants to send."""

    def __init__(self, *, frame_bytes: int, streams: int, head_bytes: int) -> None:
        """``head_bytes`` is advertised; as much again is understood, and refused with an answer."""
        self._h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,  # http/parse_fields.py is stricter, and refuses with an answer
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                SettingCodes.MAX_FRAME_SIZE: frame_bytes,
                SettingCodes.MAX_HEADER_LIST_SIZE: head_bytes,
            },
        )
        self._h2.max_inbound_frame_size = frame_bytes
        self._h2.decoder.max_header_list_size = 2 * head_bytes
        self._h2.initiate_connection()
        self._made: list[bytes] = []  # before what h2 has to say now
        self._raw = bytearray()  # after it

    def take_output(self) -> bytes:
        """What is to be sent."""
        made = b"".join((*self._made, self._h2.data_to_send(), self._raw))
        self._made.clear()
        self._raw.clear()
        return made

    # -- from the client --------------------------------------------------------------------------------------

    def receive(self, received: Frame) -> Iterator[WireEvent]:
        """What a frame means. Raises: Broken."""
        return self._receive(received.raw)

    def end_content(self, stream_id: int) -> None:
        """The content of a stream is over. Raises: Broken.

        h2 never saw it and would find it shorter than its Content-Length, which is checked elsewhere; trailers
        without a field end a stream just as well.
        """
        for _ in self._receive(frame(HEADERS, END_HEADERS | END_STREAM, stream_id)):
            pass

    def judge_content(self, stream_id: int) -> None:
        """Content came where none may. Raises: Broken, unless the stream alone is to blame."""
        for _ in self._receive(frame(DATA, 0, stream_id)):
            pass

    def _receive(self, raw: bytes) -> Iterator[WireEvent]:
        try:
            events = self._h2.receive_data(raw)
        except ProtocolError as exc:
            raise Broken(int(exc.error_code), is_told=True, why=repr(exc)) from exc
        for event in events:
            match event:
                case RequestReceived():
                    yield Requested(event.stream_id, _fields(event.headers), event.stream_ended is None)
                case TrailersReceived():
                    yield Trailed(event.stream_id, _fields(event.headers))
                case StreamReset():
                    yield Cancelled(event.stream_id)
                case WindowUpdated():
                    yield Widened(event.stream_id or 0)
                case RemoteSettingsChanged():
                    encoder = self._h2.encoder
                    encoder.header_table_size = min(encoder.header_table_size, ENCODER_TABLE_BYTES)
                    yield Widened(0)
                case _:
                    pass

    # -- to the client ----------------------------------------------------------------------------------------

    @property
    def window(self) -> int:
        """Bytes of content that the client takes over all streams."""
        return self._h2.outbound_flow_control_window

    def window_of(self, stream_id: int) -> int:
        """Bytes of content that the client takes on one stream now. Raises: ClientGone."""
        try:
            return max(0, self._h2.local_flow_control_window(stream_id))
        except ProtocolError as exc:
            raise ClientGone(detail=repr(exc)) from exc

    def send_head(self, stream_id: int, fields: EncodedFields, *, ends: bool) -> None:
        """An answer's head, an interim one, or trailers. Raises: ClientGone."""
        try:
            self._h2.send_headers(stream_id, fields, end_stream=ends)
        except ProtocolError as exc:
            raise ClientGone(detail=repr(exc)) from exc

    def send_content(self, stream_id: int, data: memoryview, *, ends: bool) -> None:
        """Content, of which the window allows this much. Raises: ClientGone."""
        most = self._h2.max_outbound_frame_size
        # Where the last frame begins: h2 makes that one, and so sees an end.
        last = max(0, len(data) - 1) // most * most
        try:
            if last:
                self._send_full_frames(stream_id, data[:last], most)
            if len(data):
                self._h2.send_data(stream_id, bytes(data[last:]), end_stream=ends)
            elif ends:
                self._h2.end_stream(stream_id)
        except ProtocolError as exc:
            raise ClientGone(detail=repr(exc)) from exc

    def _send_full_frames(self, stream_id: int, data: memoryview, most: int) -> None:
        """Frames of ``most`` bytes. h2 takes longer to make one than its bytes take to be encrypted."""
        if len(data) > self.window_of(stream_id):
            raise FlowControlError("more content than the client's window")
        head = frame_head(DATA, 0, stream_id, most)
        self._made.append(self._h2.data_to_send())  # the answer's head comes before its content
        self._made.append(
            b"".join(part for at in range(0, len(data), most) for part in (head, data[at : at + most]))
        )
        self._h2.outbound_flow_control_window -= len(data)
        self._h2.streams[stream_id].outbound_flow_control_window -= len(data)

    def reset(self, stream_id: int, code: Code) -> None:
        """End a stream; one that is over already is left alone."""
        try:
            self._h2.reset_stream(stream_id, code)
        except ProtocolError:
            return

    def widen(self, stream_id: int, more: int) -> None:
        """Tell the client that it may send ``more`` bytes."""
        self._raw += frame(WINDOW_UPDATE, 0, stream_id, more.to_bytes(4))

    def go_away(self, code: int, last_stream_id: int) -> None:
        """Tell the client to open no further stream. h2 would take it for the end of all that run."""
        self._raw += frame(GOAWAY, 0, 0, last_stream_id.to_bytes(4) + code.to_bytes(4))


def _fields(headers: Iterable[tuple[bytes | str, bytes | str]]) -> EncodedFields:
    # Bytes, as no encoding was asked for; the annotation of h2 allows for both.
    return [(_bytes(name), _bytes(value)) for name, value in headers]


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
