"""What an HTTP/2 client reads of the frames that are made beside h2, and its windows afterwards."""

import random

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded
from h2.settings import SettingCodes, Settings

from gateway.errors import ClientGone
from gateway.net.frames import Frame
from gateway.net.http2_wire import Wire

FIELDS = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"localhost")]


class Client:
    """h2 as a client of one ``Wire``, with as many bytes of window as it says."""

    def __init__(self, *, window: int, frame_bytes: int = 16_384) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: window,
                SettingCodes.MAX_FRAME_SIZE: frame_bytes,
            },
        )
        self.h2.max_inbound_frame_size = frame_bytes
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(max(1, window - 65_535))
        self.wire = Wire(frame_bytes=65_536, streams=10, head_bytes=8192)
        self.h2.send_headers(1, FIELDS, end_stream=True)
        self.content = b""
        self.heads = self.ends = 0
        self.talk()

    def talk(self) -> None:
        said = Frame(kind=0, flags=0, stream_id=0, raw=self.h2.data_to_send())
        for _ in self.wire.receive(said):
            pass
        for event in self.h2.receive_data(self.wire.take_output()):
            if isinstance(event, DataReceived):
                assert event.data is not None
                self.content += event.data
            self.heads += isinstance(event, ResponseReceived)
            self.ends += isinstance(event, StreamEnded)


@pytest.mark.parametrize("frame_bytes", [16_384, 20_000])
def test_content_of_any_size_arrives_whole_behind_its_head_and_ends_once(frame_bytes: int) -> None:
    for size in (0, 1, 16_383, 16_384, 16_385, 20_000, 32_768, 40_000, 100_000, 262_144):
        client = Client(window=300_000, frame_bytes=frame_bytes)
        content = random.Random(size).randbytes(size)
        client.wire.send_head(1, [(b":status", b"200")], ends=False)
        client.wire.send_content(1, memoryview(content), ends=True)
        client.talk()
        assert client.content == content
        assert (client.heads, client.ends) == (1, 1)


def test_the_clients_windows_are_kept_to_the_byte() -> None:
    client = Client(window=100_000)
    client.wire.send_head(1, [(b":status", b"200")], ends=False)
    client.wire.send_content(1, memoryview(bytes(70_000)), ends=False)
    assert client.wire.window_of(1) == 30_000
    client.talk()
    client.h2.increment_flow_control_window(20_000, stream_id=1)
    client.h2.increment_flow_control_window(20_000)
    client.talk()
    assert client.wire.window_of(1) == 50_000
    client.wire.send_content(1, memoryview(bytes(50_000)), ends=True)
    assert client.wire.window == 0
    client.talk()
    assert (len(client.content), client.ends) == (120_000, 1)


def test_more_than_the_window_is_never_sent() -> None:
    client = Client(window=65_535)
    client.wire.send_head(1, [(b":status", b"200")], ends=False)
    with pytest.raises(ClientGone):
        client.wire.send_content(1, memoryview(bytes(100_000)), ends=True)
    client.talk()
    assert client.content == b""


def test_what_is_for_a_stream_that_was_reset_goes_nowhere() -> None:
    client = Client(window=300_000)
    client.wire.send_head(1, [(b":status", b"200")], ends=False)
    client.h2.reset_stream(1)
    client.talk()
    with pytest.raises(ClientGone):
        client.wire.send_content(1, memoryview(bytes(100_000)), ends=False)
