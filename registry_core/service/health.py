"""Owns saying whether the registry can work: its database and its store, proven by use."""

from typing import Any

from sqlalchemy import text

from gateway.errors import GatewayError
from registry_core.registry import Registry


def look(registry: Registry) -> dict[str, Any]:
    """``status`` is "ok" or "ill"; ``reasons`` tells of each part what is wrong, or a few words."""
    reasons: dict[str, str] = {}
    ill = False
    try:
        with registry.database.read() as db:
            db.execute(text("SELECT 1"))
        reasons["database"] = "ok"
    except GatewayError as exc:
        ill, reasons["database"] = True, exc.message
    try:
        reasons["store"] = registry.store.check()
    except GatewayError as exc:
        ill, reasons["store"] = True, exc.message
    return {"status": "ill" if ill else "ok", "reasons": reasons}
