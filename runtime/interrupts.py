"""An interrupt from the keyboard that is not lost while a program starts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C, and yield a function that raises KeyboardInterrupt where one was lost, and ends remembering.

    Python raises KeyboardInterrupt wherever it happens to be. Inside a callback of the import system, or of a compiled
    module that clears errors, it is swallowed: measured here, one in fifteen of a start with the live view. Call the
    function when the start is over. In other threads, or under a handler of someone else's, it does nothing.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    def over() -> None:
        nonlocal came
        if mine and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            came = False
            raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    mine = mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if mine:
        signal.signal(signal.SIGINT, note)
    try:
        yield over
    finally:
        if mine and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, signal.default_int_handler)
