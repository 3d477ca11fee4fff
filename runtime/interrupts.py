"""Ctrl-C, and a service manager's request to stop, that end a program in order and are not lost while it starts."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gensoup.runtime.errors import Interrupted


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """Turn SIGTERM into KeyboardInterrupt too, and yield a function to call when the start is over.

    It raises KeyboardInterrupt where one was lost: Python raises it wherever it happens to be, and inside a callback of
    the import system, or of a compiled module that clears errors, it is swallowed (measured: docs/decisions.md), with a
    traceback, which is left out here. Where a module made another error of it, KeyboardInterrupt is raised instead.
    Handlers of someone else's stay, and in other threads than the main one all this does nothing.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    def over() -> None:
        nonlocal came
        lost, came = came, False
        for number in mine:  # what comes from here on is heeded by whoever catches it
            signal.signal(number, signal.default_int_handler)
        if lost:
            raise KeyboardInterrupt

    def told(lost: sys.UnraisableHookArgs) -> None:
        if not (came and issubclass(lost.exc_type, KeyboardInterrupt)):
            tell(lost)

    before: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    main = threading.current_thread() is threading.main_thread()
    mine = [number for number, handler in before.items() if main and signal.getsignal(number) is handler]
    for number in mine:
        signal.signal(number, note)
    tell = sys.unraisablehook
    if mine:
        sys.unraisablehook = told
    try:
        yield over
    except Interrupted:
        raise
    except Exception:
        if came:
            raise KeyboardInterrupt from None
        raise
    finally:
        if mine:
            sys.unraisablehook = tell
        for number in mine:
            signal.signal(number, before[number])


@contextmanager
def interrupt_calls(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first interrupt call ``stop`` in place of raising KeyboardInterrupt wherever the program happens to be.

    SIGTERM too, where it is one. Nothing is changed in other threads than the main one, or where interrupts are handled
    or ignored already.
    """
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    mine = [number for number in numbers if signal.getsignal(number) is signal.default_int_handler]

    def once(number: int, at: FrameType | None) -> None:
        restore()
        stop()

    def restore() -> None:
        for number in mine:
            signal.signal(number, signal.default_int_handler)

    for number in mine:
        signal.signal(number, once)
    try:
        yield
    finally:
        restore()
