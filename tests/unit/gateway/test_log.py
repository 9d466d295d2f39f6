"""Owns what is logged: one line a request, no secrets, readable by people or machines."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.errors import CoreDown, GatewayError, NotFound, StoreDown, UpstreamProtocol
from gateway.http.exchange import Peer
from gateway.http.head import NO_BODY, Fields, RequestHead
from gateway.log import ACCESS, Access, log_access, note_access, set_up_logging
from gateway.mask import mask_target
from gateway.settings import Settings


@contextmanager
def logging_as(**options: Any) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, ACCESS.disabled
    stream = io.StringIO()
    try:
        set_up_logging(Settings.model_validate({"log": options}).log, stream)
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        ACCESS.disabled = disabled


@dataclass
class Content:
    received: int = 7


@dataclass
class Over:
    """An exchange that is over."""

    target: str = "/v1/images/a/b/c"
    status: int = 200
    error: GatewayError | None = None
    has_head: bool = True
    request_id: str = "r1"
    sent_bytes: int = 9
    route: str = "core"
    duration_s: float = 0.25
    body: Content = field(default_factory=Content)
    peer: Peer = field(
        default_factory=lambda: Peer(
            address="192.0.2.1",
            scheme="https",
            is_admin=False,
            trusts_forwarded=False,
            socket_address="192.0.2.1",
        )
    )

    @property
    def head(self) -> RequestHead:
        return RequestHead(method="GET", target=self.target, fields=Fields(), framing=NO_BODY)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/v2/transfers/eyJ.abc", "/v2/transfers/***"),
        ("/v1/blobs/eyJ.abc?x=1", "/v1/blobs/***?x=1"),
        ("/v2/uploads/123", "/v2/uploads/***"),
        ("/uploads/123/x", "/uploads/***"),
        ("/v1/images/a/b/c?arch=amd64", "/v1/images/a/b/c?arch=amd64"),
        ("/x?token=abc&b=2&X-Amz-Signature=def", "/x?token=***&b=2&X-Amz-Signature=***"),
        (
            "/x?csrf_token=a&access_token=b&Password=c&apikey=d",
            "/x?csrf_token=***&access_token=***&Password=***&apikey=***",
        ),
        ("/x?tokenless&page=token", "/x?tokenless&page=token"),
        ("/uploads/", "/uploads/"),
        ("-", "-"),
    ],
)
def test_nothing_that_gives_access_is_written(target: str, shown: str) -> None:
    assert mask_target(target) == shown


def test_a_request_is_one_line_of_text() -> None:
    with logging_as() as stream:
        log_access(Over(target="/v1/blobs/secret"))
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "r1 192.0.2.1 GET /v1/blobs/*** 200 in=7 out=9 0.250s core" in line
    assert "secret" not in line


def test_a_request_is_one_json_object() -> None:
    with logging_as(format="json") as stream:
        log_access(Over(error=NotFound(), status=404))
    value = json.loads(stream.getvalue())
    assert (value["status"], value["client"], value["error"]) == (404, "192.0.2.1", "not_found")
    assert value["time"].endswith("Z")


def test_faults_of_the_server_are_told_with_their_detail() -> None:
    with logging_as() as stream:
        log_access(Over(error=StoreDown(detail="disk on fire"), status=503))
        log_access(Over(error=UpstreamProtocol(detail="nonsense"), status=502))
    text = stream.getvalue()
    assert "ERROR gateway: r1:" in text
    assert "disk on fire" in text
    assert "WARNING gateway: r1:" in text


@pytest.mark.parametrize("error", [NotFound(detail="d"), CoreDown(detail="d")])
def test_faults_of_clients_and_a_core_that_is_away_are_one_line(error: GatewayError) -> None:
    with logging_as() as stream:
        log_access(Over(error=error, status=error.status))
    assert stream.getvalue().count("\n") == 1


def test_a_head_that_could_not_be_read_is_logged_too() -> None:
    with logging_as() as stream:
        log_access(Over(has_head=False, status=400))
    assert " - - 400 " in stream.getvalue()


def test_access_lines_can_be_turned_off_and_do_not_depend_on_the_level() -> None:
    access = Access(
        request_id="r", client="c", method="GET", target="/", status=200, bytes_in=0, bytes_out=0, seconds=0.0
    )
    with logging_as(access=False) as stream:
        note_access(access)
    assert stream.getvalue() == ""
    with logging_as(level="error") as stream:
        note_access(access)
        logging.getLogger("gateway.x").warning("no")
    assert stream.getvalue().count("\n") == 1


def test_a_traceback_is_inside_the_json_object() -> None:
    with logging_as(format="json") as stream:
        try:
            int("boom")
        except ValueError:
            logging.getLogger("gateway.x").exception("bug")
    value = json.loads(stream.getvalue())
    assert value["message"] == "bug"
    assert "boom" in value["traceback"]
