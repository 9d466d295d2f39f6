"""Owns what a running process can take up of newly read settings, and what has to wait for the next process."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from gateway.settings import Settings

# What a process is built on: its ports, its place on the disk, its stores, its way to the core, its certificate. A name
# stands for all below it.
_FOR_LIFE: Final = (
    "server.data_dir", "server.http", "server.http2", "server.https", "server.more_http", "server.more_https",
    "server.proxy_protocol", "server.workers", "tls", "storage", "core.secret_file", "core.url",
    "registry.database_url",
)  # fmt: skip
_BUT: Final = (
    "tls.certificate", "tls.client_certificate_paths", "tls.hsts_include_subdomains",
    "tls.hsts_preload", "tls.hsts_s", "tls.key", "tls.redirect",
    "storage.cleanup", "storage.s3.access_key", "storage.s3.access_key_file", "storage.s3.previous_access_key",
    "storage.s3.previous_access_key_file", "storage.s3.previous_secret_key", "storage.s3.previous_secret_key_file",
    "storage.s3.secret_key", "storage.s3.secret_key_file",
)  # fmt: skip
# New keys of S3 are taken up by the core itself, see ``registry_core/server.py``.
_CORE_READS: Final = ("log.format", "log.level", "registry", "server.public_url", "storage.cleanup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``settings`` can be in force now. ``changed`` are the names that are other than before, ``waiting`` those that
    need another process.
    """

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]

    @property
    def concerns_core(self) -> bool:
        """Whether the core has to read its settings anew."""
        return any(_is_below(name, _CORE_READS) for name in self.changed)


def change(now: Settings, wanted: Settings) -> Change:
    """What becomes of the settings in force when others are wanted."""
    if now.tls.mode != wanted.tls.mode:
        # Whatever the other mode needs, the certificate of this one stays.
        files = {"mode": now.tls.mode, "certificate": now.tls.certificate, "key": now.tls.key}
        settled = change(now, wanted.model_copy(update={"tls": wanted.tls.model_copy(update=files)}))
        return replace(settled, waiting=(*settled.waiting, "tls.mode"))
    changed: list[str] = []
    waiting: list[str] = []
    settings = _merged(now, wanted, "", changed, waiting)
    return Change(settings=settings, changed=tuple(changed), waiting=tuple(waiting))


def pinned(settings: Settings, names: Iterable[str]) -> Mapping[str, Any]:
    """The values in force of some names, as ``supervise.environment_of`` takes them.

    A core that starts reads the same file, and must not take up what the gateway cannot.
    """
    values: dict[str, Any] = {}
    for name in names:
        value: Any = settings
        for step in name.split("."):
            value = getattr(value, step)
        values[name] = "" if value is None else value
    return values


def _merged[S: BaseModel](now: S, wanted: S, prefix: str, changed: list[str], waiting: list[str]) -> S:
    kept: dict[str, Any] = {}
    for name in type(now).model_fields:
        old, new, dotted = getattr(now, name), getattr(wanted, name), f"{prefix}{name}"
        if old == new:
            continue
        if isinstance(old, BaseModel):
            kept[name] = _merged(old, new, f"{dotted}.", changed, waiting)
        elif _is_below(dotted, _FOR_LIFE) and dotted not in _BUT:
            waiting.append(dotted)
        else:
            changed.append(dotted)
            kept[name] = new
    return now.model_copy(update=kept)


def _is_below(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)
