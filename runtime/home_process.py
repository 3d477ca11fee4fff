"""The process that threads belong to: a forked child has none of them, and locks in it may be held for ever."""

from __future__ import annotations

import os

from gensoup.runtime.errors import UsageError


class HomeProcess:
    """The process in which it was made."""

    def __init__(self, what: str, remedy: str) -> None:
        """``what`` does not survive a fork; ``remedy`` says what to do instead."""
        self._what, self._remedy = what, remedy
        self._number = os.getpid()

    def is_here(self) -> bool:
        """False in a forked child."""
        return os.getpid() == self._number

    def check(self) -> None:
        """Raise UsageError in a forked child."""
        if not self.is_here():
            raise UsageError(f"{self._what} does not survive a fork: its threads are not here; {self._remedy}")
