"""Owns what came of an nginx configuration: settings, routes, and a list of what was lost."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Imported:
    """What was made of a configuration. ``settings`` are tables by name; ``notes`` what could not be translated."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Remember, once, what is lost."""
        if text not in self.notes:
            self.notes.append(text)
