"""Owns what ``gateway trace`` sees of the S3 wire: one exchange from its request to the end of what was taken."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class S3Seen:
    """One exchange. ``received`` is the answer's Content-Length; ``status`` 0 when nothing was answered.

    request: the id of the client's request that it was for, "" = none.
    code: S3's word for an error. error: the exception when there is no answer, or not all of it.
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
        length = fields.get("content-length", "")
        self.received = int(length) if length.isdecimal() and self.method != "HEAD" else 0

    def note_end(self, *, code: str = "", error: BaseException | None = None) -> None:
        """Nothing more comes."""
        self.seconds = time.monotonic() - self._began
        self.code = code
        self.error = "" if error is None else type(error).__name__


type S3Observer = Callable[[S3Seen], None]
"""Called from any thread, when an exchange is over."""
