"""Owns what must survive a restart: when to ask the authority again, and what went wrong last."""

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from gateway.net.files import write_atomically

FILE_NAME: Final = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeState:
    """``plan_id`` is the order that failures and times belong to. Times are aware, None = never or unknown."""

    plan_id: str = ""
    failures: int = 0
    retry_at: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    issued_at: datetime | None = None
    renew_at: datetime | None = None
    advice_due_at: datetime | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The state in the folder; a fresh one when there is none, or it is damaged."""
        try:
            raw = json.loads((folder / FILE_NAME).read_bytes())
            known: dict[str, Any] = {f.name: _read(f.name, raw[f.name]) for f in fields(cls) if f.name in raw}
            return cls(**known)
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, folder: Path) -> None:
        """Keep the state in the folder."""
        text = json.dumps(asdict(self), default=datetime.isoformat, indent=1)
        write_atomically(folder / FILE_NAME, text.encode(), 0o644)


def _read(name: str, value: object) -> object:
    if name.endswith("_at") and value is not None:
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is None:
            raise ValueError(name)
        return moment
    if isinstance(value, int) is not (name == "failures"):
        raise ValueError(name)
    return value
