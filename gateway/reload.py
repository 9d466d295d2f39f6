"""Owns SIGHUP: the settings are read again, and what can change in this process changes, for requests that come then.

Nothing is cut. What needs another process is named in the log; settings that are wrong change nothing.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from typing import Any, Protocol

from gateway.core_control import READY_S, new_core_ready
from gateway.core_health import Probe
from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.settings_change import Change, change, pinned
from gateway.settings_source import LoadedSettings, load
from gateway.supervise import Child, Program, Workers, core_program, worker_number

log = logging.getLogger("gateway")


def program_of(loaded: LoadedSettings, flags: Mapping[str, Any]) -> Program:
    """The core as it is started. ``flags`` win over what it reads by itself."""
    return core_program(data_dir=loaded.settings.data_dir, config=loaded.file, flags=flags)


class CoreReload:
    """Lets the core have new settings: by another core beside it, as ``gateway core restart`` does."""

    def __init__(
        self,
        child: Child,
        loaded: LoadedSettings,
        flags: Mapping[str, Any],
        probe: Probe,
    ) -> None:
        self._child = child
        self._loaded = loaded
        self._flags = flags
        self._probe = probe
        self._has = loaded.settings
        self._wanted: Settings | None = None
        self._task: asyncio.Task[None] | None = None

    def take(self, new: Change) -> None:
        """Restart it when it reads what has changed; else it looks for new keys of its store only."""
        fixed = {**pinned(new.settings, new.waiting), **self._flags}
        self._child.take(program_of(self._loaded, fixed))
        if not change(self._has, new.settings).concerns_core:
            self._child.send(signal.SIGHUP)
            return
        self._wanted = new.settings
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        path = self._loaded.settings.core_socket
        while (wanted := self._wanted) is not None:
            self._wanted = None
            log.info("reload: another core is started, as it reads what has changed")
            if await self._child.replace(new_core_ready(path, self._probe), within_s=READY_S):
                self._has = wanted
                log.info("reload: the core has the new settings")
            else:
                log.error("reload: the new core did not get well; the old one goes on as it was")


class Reloadable(Protocol):
    """The process that a reload changes."""

    probe: Probe

    def take(self, settings: Settings) -> None:
        """Put settings in force. Raises: SettingsError, OSError, ValueError, and then nothing has changed."""
        ...

    def renew_certificate(self) -> None:
        """Look for another certificate."""
        ...


class Reload:
    """The story of one SIGHUP. Call it."""

    def __init__(
        self,
        loaded: LoadedSettings,
        flags: Mapping[str, Any],
        gateway: Reloadable,
        core: Child | None = None,
        workers: Workers | None = None,
    ) -> None:
        """``flags`` keep winning over the file."""
        self._file = loaded.file
        self._flags = flags
        self._settings = loaded.settings
        self._gateway = gateway
        self._core = None if core is None else CoreReload(core, loaded, flags, gateway.probe)
        self._workers = workers
        self._is_worker = worker_number(os.environ) is not None

    def __call__(self) -> None:
        """Do it."""
        new: Change | None = None
        try:
            new = change(self._settings, load(file=self._file, flags=self._flags).settings)
            self._gateway.take(new.settings)
            self._settings = new.settings
        except (SettingsError, OSError, ValueError) as exc:
            new = None
            self._say(logging.ERROR, "reload: the settings stay as they are: %s", exc)
        else:
            self._tell(new)
        self._gateway.renew_certificate()
        if self._workers is not None:
            if new is not None:
                self._workers.fix(pinned(new.settings, new.waiting))
            self._workers.send(signal.SIGHUP)
        if self._core is not None and new is not None:
            self._core.take(new)

    def _tell(self, new: Change) -> None:
        self._say(logging.INFO, "reload: new: %s", ", ".join(new.changed) or "nothing")
        if new.waiting:
            self._say(logging.WARNING, "reload: a change of %s needs gateway upgrade", ", ".join(new.waiting))
        if new.concerns_core and new.settings.core.url:
            self._say(
                logging.INFO, "reload: the core at %s reads its settings by itself", new.settings.core.url
            )

    def _say(self, level: int, text: str, *values: object) -> None:
        # All workers do the same at once: the first process says it for all. But what fails may fail in one alone, as
        # each reads the file by itself; that one then has other settings than its fellows.
        is_said_already = self._is_worker and level < logging.ERROR
        log.log(logging.DEBUG if is_said_already else level, text, *values)
