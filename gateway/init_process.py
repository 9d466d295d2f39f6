"""Owns process 1 of a container, which has to outlive every gateway process: its end is the end of all of them.

So it serves nothing. It starts the gateway as its child, passes signals on to whichever process is the gateway by
then, and ends when none is left. ``gateway upgrade`` replaces one gateway process by another; each tells process 1
that it serves, by a signal that carries its process id.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

INIT_VARIABLE: Final = "SREGISTRY_INIT"
FIRST: Final = 1
SIGNAL_EXIT: Final = 128  # and the signal's number, as shells and container engines say it

_SERVES: Final = signal.SIGRTMIN  # unlike the ordinary ones, these queue: none is lost
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_PASSED: Final = _ENDING | {signal.SIGHUP, signal.SIGUSR2}
_WATCHED: Final = _PASSED | {signal.SIGCHLD, _SERVES}
# What whoever started us says to process 1 alone, which is to reach the gateway.
_SAID_TO_US: Final = ("LISTEN_PID", "WATCHDOG_PID")


def stay_as_first() -> None:
    """In process 1: return in a child of it, while process 1 itself stays and never returns. Else nothing happens.

    To be called before there are threads, and before much is in memory: process 1 keeps what is.
    """
    if os.getpid() != FIRST:
        return
    # Blocked, they wait for us to ask. Left alone, process 1 would be deaf to those that it has no handler for.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    sys.stdout.flush()
    sys.stderr.flush()
    gateway = os.fork()
    if gateway:
        os._exit(_Init(gateway).run())
    os.environ[INIT_VARIABLE] = str(FIRST)
    for name in _SAID_TO_US:
        if os.environ.get(name) == str(FIRST):
            os.environ[name] = str(os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tell_init(environ: Mapping[str, str]) -> None:
    """In a main process that serves from now on: tell our process 1, if there is one, that it is the gateway.

    Before the older gateway hears of it: process 1 must know the new one when the old one ends.
    """
    from gateway.supervise import WORKER_VARIABLE  # noqa: PLC0415 - process 1 itself needs none of it

    if environ.get(INIT_VARIABLE) == str(FIRST) and WORKER_VARIABLE not in environ:
        with contextlib.suppress(OSError):
            os.kill(FIRST, _SERVES)


class _Init:
    """Process 1. The gateway is who said so last; older ones still drain."""

    def __init__(self, gateway: int) -> None:
        self._turns = {gateway: 0}
        self._turn = 0
        self._ended = (-1, 0)  # whose turn, and the status
        self._ending: int | None = None
        self._early: list[int] = []  # what nobody could be told yet

    def run(self) -> int:
        """Until no gateway is left; the exit status of the last one that took over."""
        while self._turns:
            number = signal.sigwaitinfo(_WATCHED)
            if number.si_signo == _SERVES:
                self._take(number.si_pid)
            elif number.si_signo == signal.SIGCHLD:
                self._reap()
            else:
                self._pass_on(number.si_signo)
            self._forget_the_gone()
        return self._ended[1]

    def _reap(self) -> None:
        """Also the children of others: who outlives its parent becomes ours."""
        with contextlib.suppress(ChildProcessError):
            while (done := os.waitpid(-1, os.WNOHANG))[0]:
                self._hear()  # also what it said before its end, or before the end of the one it took over from
                turn = self._turns.pop(done[0], None)
                if turn is not None:
                    self._ended = max(self._ended, (turn, _exit_status(done[1])))

    def _hear(self) -> None:
        """Who serves, as told up to now: of several signals the kernel gives the smallest number first."""
        while told := signal.sigtimedwait({_SERVES}, 0):
            self._take(told.si_pid)

    def _take(self, pid: int) -> None:
        self._turn += 1
        self._turns[pid] = self._turn
        if self._ending is not None:  # it got ready when all were told to end
            _send(pid, self._ending)
            return
        early, self._early = self._early, []
        for number in early:
            _send(pid, number)

    def _pass_on(self, number: int) -> None:
        self._hear()
        self._forget_the_gone()
        if number in _ENDING:
            self._ending = number
        elif not self._turn:
            # Nobody serves yet: it might not outlive the signal, and may have read the settings already.
            if number not in self._early:
                self._early.append(number)
            return
        if self._turns:
            _send(max(self._turns, key=self._turns.__getitem__), number)

    def _forget_the_gone(self) -> None:
        """A successor that fails after all is reaped by the process that started it."""
        self._turns = {pid: turn for pid, turn in self._turns.items() if _exists(pid)}


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNAL_EXIT - code


def _exists(pid: int) -> bool:
    """Whether there is such a process, be it one that ended and was not waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
