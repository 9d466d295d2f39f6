"""Owns the log on standard error: lines for people or JSON for machines, one access line a request, no secrets."""

import json
import logging
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TextIO

from gateway.errors import ClientError, CoreDown, CoreRefused, GatewayError, InMaintenance, UpstreamError
from gateway.http.exchange import Peer
from gateway.http.head import RequestHead
from gateway.mask import mask_target
from gateway.settings import Log

log = logging.getLogger("gateway")

ACCESS: Final = logging.getLogger("gateway.access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One finished request. ``route`` names who answered (core, upload, blob, maintenance, …); times in seconds.

    ``error`` is the code of what went wrong, or "".
    """

    request_id: str
    client: str
    method: str
    target: str
    status: int
    bytes_in: int
    bytes_out: int
    seconds: float
    route: str = ""
    error: str = ""


def note_access(access: Access) -> None:
    """Write the line of one request."""
    ACCESS.info("request", extra={"access": access})


class Content(Protocol):
    """A request's body, afterwards."""

    @property
    def received(self) -> int:
        """Bytes that were read."""
        ...


class FinishedExchange(Protocol):
    """What log and metrics read of an exchange that is over."""

    peer: Peer
    request_id: str
    status: int
    sent_bytes: int
    route: str
    error: GatewayError | None

    @property
    def has_head(self) -> bool:
        """False when the head could not be read."""
        ...

    @property
    def head(self) -> RequestHead:
        """The request's head."""
        ...

    @property
    def body(self) -> Content:
        """The request's body."""
        ...

    @property
    def duration_s(self) -> float:
        """Seconds since the head was read."""
        ...


def log_access(exchange: FinishedExchange) -> None:
    """Write the line of one request, and its fault when it is the server's."""
    error = exchange.error
    note_access(
        Access(
            request_id=exchange.request_id,
            client=exchange.peer.address,
            method=exchange.head.method if exchange.has_head else "-",
            target=exchange.head.target if exchange.has_head else "-",
            status=exchange.status or (error.status if error is not None else 0),
            bytes_in=exchange.body.received,
            bytes_out=exchange.sent_bytes,
            seconds=exchange.duration_s,
            route=exchange.route,
            error=error.code if error is not None else "",
        )
    )
    if error is None or isinstance(error, ClientError | CoreRefused | CoreDown | InMaintenance):
        return  # the line above says all; the core's coming and going is logged once, not by request
    level = logging.WARNING if isinstance(error, UpstreamError) else logging.ERROR
    log.log(level, "%s: %s", exchange.request_id, error)


class TextFormatter(logging.Formatter):
    """``time LEVEL name: message``; access lines without level and name."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with a traceback."""
        stamp = _stamp(record.created)
        access = getattr(record, "access", None)
        if isinstance(access, Access):
            return (
                f"{stamp} {access.request_id} {access.client} {access.method} {mask_target(access.target)}"
                f" {access.status} in={access.bytes_in} out={access.bytes_out} {access.seconds:.3f}s"
                f" {access.route or '-'}{' ' + access.error if access.error else ''}"
            )
        text = f"{stamp} {record.levelname} {record.name}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Keys: time, level, logger, message; for requests those of ``Access``."""
        value: dict[str, object] = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        access = getattr(record, "access", None)
        if isinstance(access, Access):
            value |= asdict(access) | {
                "target": mask_target(access.target),
                "seconds": round(access.seconds, 6),
            }
        else:
            value["message"] = record.getMessage()
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False)


def set_up_logging(settings: Log, stream: TextIO | None = None) -> None:
    """Send everything that is logged to ``stream`` (standard error). May be called again after a reload."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    # A library's chatter is not our log; its complaints are.
    for noisy in ("asyncio", "urllib3", "acme", "hpack", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    ACCESS.disabled = not settings.access
    # Access lines are wanted or not by their own setting, whatever the level of the rest.
    ACCESS.setLevel(logging.INFO)


def _stamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
