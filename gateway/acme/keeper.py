"""Owns the care for the ACME certificate while the gateway runs: when a turn is due, it starts one."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gateway.acme.challenges import Challenges
from gateway.acme.live import due_step, usable_pair
from gateway.acme.plan import AcmePlan, plan_of
from gateway.acme.schedule import Step
from gateway.acme.state import AcmeState
from gateway.net.files import locked
from gateway.net.tls import CertificateSource
from gateway.settings import Settings

POLL_S: Final = 30.0
TURN_S: Final = 900.0  # an order has five minutes, a hook two; after this the turn is stuck

_LOG: Final = logging.getLogger("gateway.acme")


class Keeper:
    """Every worker has one: each answers challenges, and whoever finds a turn due first takes it."""

    def __init__(
        self, plan: AcmePlan, source: CertificateSource, *, now: Callable[[], datetime] | None = None
    ) -> None:
        self._plan = plan
        self._source = source
        self._now = now or _utc_now
        self.challenges = Challenges(plan.data_dir)
        if plan.challenge == "tls-alpn-01":
            source.answer_challenges(self.challenges)

    def follow(self, settings: Settings) -> None:
        """Look after the names of other settings from the next look on. Raises: SettingsError."""
        self._plan = plan_of(settings)

    async def run(self, interval_s: float = POLL_S) -> None:
        """Look for ever. Start it after the listeners: the authority knocks while an order runs."""
        while True:
            await self.step()
            await asyncio.sleep(interval_s)

    async def step(self) -> str:
        """Take a turn if one is due. Returns its outcome, "" when none was."""
        if not await asyncio.to_thread(self._is_due):
            return ""
        try:
            turn = await take_turn_apart(self._plan)
        except TurnBroken as exc:
            self._source.last_error = exc.sentence
            await asyncio.to_thread(self._remember, exc.sentence)
            _LOG.error("the certificate could not be looked after: %s", exc.sentence)
            return "failed"
        outcome, sentence = str(turn["outcome"]), str(turn["sentence"])
        match outcome:
            case "issued":
                await asyncio.to_thread(self._source.reload)
                _LOG.log(logging.ERROR if turn["hook_failed"] else logging.INFO, "%s", sentence)
            case "failed":
                self._source.last_error = sentence
                _LOG.error("no new certificate: %s", sentence)
            case _:
                _LOG.info("%s", sentence)
        return outcome

    def _remember(self, sentence: str) -> None:
        """The turn cannot any more; without this nobody but the log would know."""
        folder = self._plan.folder
        with suppress(OSError), locked(folder, wait=False) as got:
            if got:
                state = AcmeState.load(folder)
                replace(state, last_error=sentence, last_error_at=self._now()).save(folder)

    def _is_due(self) -> bool:
        now = self._now()
        state = AcmeState.load(self._plan.folder)
        return due_step(self._plan, state, usable_pair(self._plan, now), now) is not Step.WAIT


class TurnBroken(Exception):
    """The process that should take a turn ended without a word."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


async def take_turn_apart(plan: AcmePlan) -> dict[str, object]:
    """Take a turn in a process of its own, which does not outlive this call.

    Raises: TurnBroken.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "gateway.acme",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C meant for the gateway is handled there, by ending this call
    )
    try:
        async with asyncio.timeout(TURN_S):
            output, complaints = await process.communicate(plan.to_json().encode())
    except TimeoutError as exc:
        raise TurnBroken(f"it took longer than {TURN_S:.0f} seconds") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        turn = json.loads(output)
    except ValueError as exc:
        last = complaints.decode(errors="replace").strip().rpartition("\n")[2]
        raise TurnBroken(last or f"its process ended with status {process.returncode}") from exc
    if not isinstance(turn, dict):
        raise TurnBroken("its process gave no outcome")
    return turn


def open_keeper(settings: Settings, source: CertificateSource) -> Keeper | None:
    """The keeper that the settings ask for; None unless ``tls.mode`` is ``acme``.

    Raises: SettingsError.
    """
    if settings.tls.mode != "acme":
        return None
    return Keeper(plan_of(settings), source)


def _utc_now() -> datetime:
    return datetime.now(UTC)
