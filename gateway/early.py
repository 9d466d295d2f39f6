"""Owns signals that come before this process can obey them: they do not end it, and are not forgotten."""

import signal


class _Noted:
    """Stands in for a handler."""

    def __init__(self) -> None:
        self.has_come = False

    def __call__(self, *_: object) -> None:
        self.has_come = True


def note_early(number: signal.Signals) -> None:
    """From now on the signal is only noted, unless somebody has decided otherwise already."""
    if signal.getsignal(number) is signal.SIG_DFL:
        signal.signal(number, _Noted())


def came_early(number: signal.Signals) -> bool:
    """Whether it has come meanwhile. To be asked before the handler that obeys it takes its place."""
    noted = signal.getsignal(number)
    return isinstance(noted, _Noted) and noted.has_come
