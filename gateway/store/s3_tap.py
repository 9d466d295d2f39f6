"""Owns what ``gateway trace`` sees of the S3 wire: one exchange from its request to the end of what was taken."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import IncompleteRead
from typing import Self

from gateway.store.s3_answers import S3Fault


@dataclass(slots=True, kw_only=True)
class S3Seen:
    """One exchange. ``received`` are the bytes of the answer's body that came; ``status`` 0 when nothing was answered.

    request: the id of the client's request that it was for, "" = none.
    code: S3's word for an error. error: the exception when there is no answer or not all of it, "cut" when the rest
    was not wanted.
    """

    method: str
    target: str
    sent: Mapping[str, str]
    sent_bytes: int
    request: str = ""
    when: float = field(default_factory=time.time)
    status: int = 0
    answered: Mapping[str, str] = field(default_factory=dict)
    received: int = 0
    head_s: float | None = None
    seconds: float = 0.0
    code: str = ""
    error: str = ""
    _began: float = field(default_factory=time.monotonic)

    def note_head(self, status: int, fields: Mapping[str, str]) -> None:
        """The head of the answer is here."""
        self.status, self.answered, self.head_s = status, fields, time.monotonic() - self._began

    def ended(self, received: int, *, code: str = "", error: str = "") -> Self:
        """Nothing more comes: so many bytes of a body came."""
        self.seconds = time.monotonic() - self._began
        self.received, self.code, self.error = received, code, error
        return self

    def ended_by(self, error: BaseException) -> Self:
        """There is no good answer, or not all of it."""
        if isinstance(error, S3Fault):
            return self.ended(len(error.answer.body), code=error.answer.code)
        received = len(error.partial) if isinstance(error, IncompleteRead) else 0
        return self.ended(received, error=type(error).__name__)


type S3Observer = Callable[[S3Seen], None]
"""Called from any thread, when an exchange is over."""
