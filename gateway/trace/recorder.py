"""Owns what mitmproxy's flows become: events like the gateway's own, and lines of a file that mitmweb reads."""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from mitmproxy import http
from mitmproxy.exceptions import FlowReadException
from mitmproxy.io import FlowReader, FlowWriter

from gateway.http.head import Field
from gateway.mask import mask_target
from gateway.trace.case import REFUSALS, Case, Expectation, clock_of, let_pass
from gateway.trace.diagnosis import doubt, explain
from gateway.trace.events import Event
from gateway.trace.masking import mask_fields
from gateway.trace.sigv4 import SignedRequest, declared_payload, is_digest

_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]+)</Code>")
_LOOK_AT_BYTES: Final = 64 * 1024
_KIND: Final = "gateway.hop"  # in a saved flow's metadata
_FIGURES: Final = "gateway.figures"

type Emit = Callable[[Event], None]


@dataclass(slots=True)
class _Passing:
    """What streamed by of one exchange. ``beginning`` is kept of refusals only."""

    asked: SignedRequest
    out: int = 0
    back: int = 0
    digest: Any = None
    beginning: bytearray = field(default_factory=bytearray)


class Recorder:
    """An addon: one event for each exchange, with what is wrong with its signature if it is one with S3."""

    def __init__(
        self,
        emit: Emit,
        *,
        kind_of: Callable[[http.HTTPFlow], str],
        expected: Expectation | None,
        save: BinaryIO | None = None,
    ) -> None:
        self._emit = emit
        self._kind_of = kind_of
        self._expected = expected
        self._writer: Any = FlowWriter(save) if save is not None else None  # type: ignore[no-untyped-call]
        self._file = save
        self._passing: dict[str, _Passing] = {}

    @property
    def running(self) -> int:
        """Exchanges that are not over."""
        return len(self._passing)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Count what streams by, and digest it where a digest was promised."""
        # Kept as it came: mitmproxy answers Expect by itself, and takes it out.
        asked = SignedRequest(
            method=flow.request.method, target=flow.request.path, fields=fields_of(flow.request)
        )
        passing = self._passing[flow.id] = _Passing(asked)
        if self._expected is not None and is_digest(declared_payload(asked)):
            passing.digest = hashlib.sha256()

        def pass_on(piece: bytes) -> bytes:
            passing.out += len(piece)
            if passing.digest is not None:
                passing.digest.update(piece)
            return piece

        flow.request.stream = pass_on

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Count, and keep the beginning of a refusal."""
        passing, response = self._passing.get(flow.id), flow.response
        if passing is None or response is None:
            return
        keeps = response.status_code in REFUSALS

        def pass_on(piece: bytes) -> bytes:
            passing.back += len(piece)
            if keeps and len(passing.beginning) < _LOOK_AT_BYTES:
                passing.beginning += piece
            return piece

        response.stream = pass_on

    def response(self, flow: http.HTTPFlow) -> None:
        """It is over."""
        self._finish(flow, "")

    def error(self, flow: http.HTTPFlow) -> None:
        """It ended badly."""
        self._finish(flow, flow.error.msg if flow.error is not None else "error")

    def _finish(self, flow: http.HTTPFlow, error: str) -> None:
        passing = self._passing.pop(flow.id, None)
        if passing is None:
            return  # an error after the end
        why: list[str] = []
        kind = self._kind_of(flow)
        if kind == "s3" and self._expected is not None and flow.response is not None:
            code = _CODE.search(passing.beginning)
            said = code[1].decode() if code is not None else ""
            error = error or said
            why = list(self._judge(flow, flow.response, passing, said, self._expected))
        figures = {"bytes_out": passing.out, "bytes_in": passing.back, "error": error}
        self._emit(event_of(flow, kind, figures, why))
        if self._writer is not None and self._file is not None:
            self._writer.add(masked(flow, kind, figures, why))
            self._file.flush()

    @staticmethod
    def _judge(
        flow: http.HTTPFlow, answer: http.Response, passing: _Passing, code: str, expected: Expectation
    ) -> Iterable[str]:
        """Sentences about a request that was refused, or should have been."""
        asked = flow.request.timestamp_start
        is_whole = flow.request.timestamp_end is not None  # a refusal may come before the last byte
        case = Case(
            request=passing.asked,
            now=clock_of(
                answer.headers.get("date", ""), asked=asked, waited_s=answer.timestamp_start - asked
            ),
            body_sha256=passing.digest.hexdigest() if passing.digest is not None and is_whole else "",
            code=code,
        )
        if answer.status_code in REFUSALS:
            return [found.sentence for found in explain(case, expected)]
        return doubt(case, expected) if let_pass(answer.status_code) else ()


def event_of(flow: http.HTTPFlow, kind: str, figures: dict[str, Any], why: list[str]) -> Event:
    """A flow as an event, secrets masked."""
    request, response = flow.request, flow.response
    began = request.timestamp_start
    event: Event = {
        "event": "hop",
        "time": began,
        "hop": kind,
        "id": request.headers.get("x-request-id", ""),
        "method": request.method,
        "target": mask_target(request.path),
        "status": response.status_code if response is not None else 0,
        "head_s": response.timestamp_start - began if response is not None else None,
        "seconds": _end_of(flow) - began,
        **figures,
        "request_head": mask_fields(fields_of(request)),
        "answer_head": mask_fields(fields_of(response)) if response is not None else (),
    }
    if why:
        event["why"] = why
    return event


def masked(flow: http.HTTPFlow, kind: str, figures: dict[str, Any], why: list[str]) -> http.HTTPFlow:
    """A copy that may be kept: heads with secrets masked, no bodies, the explanation as its comment."""
    kept: http.HTTPFlow = flow.copy()  # type: ignore[no-untyped-call]
    kept.live = False
    kept.comment = " ".join(why)
    kept.metadata |= {_KIND: kind, _FIGURES: figures}
    kept.request.path = mask_target(flow.request.path)
    for message in (kept.request, kept.response):
        if message is not None:
            shown = mask_fields(fields_of(message))
            message.headers = http.Headers(
                [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown]
            )
            message.raw_content = None
    return kept


def replay(file: Path) -> Iterator[Event]:
    """The events of a saved file. Raises: OSError, ValueError."""
    with file.open("rb") as stream:
        try:
            for flow in FlowReader(stream).stream():
                if isinstance(flow, http.HTTPFlow):
                    yield _replayed(flow)
        except FlowReadException as exc:
            raise ValueError(f"{file} is no flow file of mitmproxy: {exc}") from exc


def _replayed(flow: http.HTTPFlow) -> Event:
    figures = flow.metadata.get(_FIGURES)
    if not isinstance(figures, dict):  # saved by mitmproxy itself
        sizes = [len(m.raw_content or b"") if m is not None else 0 for m in (flow.request, flow.response)]
        error = flow.error.msg if flow.error is not None else ""
        figures = {"bytes_out": sizes[0], "bytes_in": sizes[1], "error": error}
    kind = str(flow.metadata.get(_KIND, flow.request.host))
    return event_of(flow, kind, figures, [flow.comment] if flow.comment else [])


def fields_of(message: http.Request | http.Response) -> tuple[Field, ...]:
    """Names in lower case, values as they came."""
    raw = message.headers.fields
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw)


def _end_of(flow: http.HTTPFlow) -> float:
    """When the last byte of the answer was seen."""
    if flow.response is not None and flow.response.timestamp_end is not None:
        return flow.response.timestamp_end
    return flow.error.timestamp if flow.error is not None else time.time()
