"""Owns on whose behalf the store works: a request's id, carried to the threads that work for it."""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, override

asking: Final = contextvars.ContextVar("asking", default="")
"""The id of the request that is being answered here, "" = the gateway's own doing."""


class CarryingThreads(ThreadPoolExecutor):
    """Threads that know for which request they work."""

    @override
    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As of every executor, in a copy of the caller's context."""
        return super().submit(partial(contextvars.copy_context().run, fn, *args, **kwargs))
