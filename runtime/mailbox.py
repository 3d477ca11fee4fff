"""One slot between two threads: what is in it is the newest, and whoever waits for it sleeps until it comes."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

Item = TypeVar("Item")


class MailboxClosed(Exception):
    """The mailbox was closed, and there is nothing left in it."""


class Mailbox(Generic[Item]):
    """A slot for one item.

    Newest wins: ``put`` never waits, and what was not fetched in time is replaced and counted in ``drops``.
    With ``blocking``, ``put`` waits until the slot is free instead: every item arrives, in order.
    """

    def __init__(self, blocking: bool = False) -> None:
        self.blocking = blocking
        self.drops = 0
        self._slot: list[Item] = []
        self._closed = False
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """Whether nothing more is accepted."""
        return self._closed

    def wait_until_free(self) -> None:
        """Wait until the slot is free. Raises MailboxClosed when it is closed before or meanwhile."""
        with self._changed:
            self._wait_until_free()

    def put(self, item: Item) -> Item | None:
        """Place ``item``; return the item it replaced, None if the slot was free. Raises MailboxClosed when closed."""
        with self._changed:
            if self.blocking:
                self._wait_until_free()
            if self._closed:
                raise MailboxClosed
            replaced = self._slot[0] if self._slot else None
            self.drops += len(self._slot)
            self._slot[:] = [item]
            self._changed.notify_all()
            return replaced

    def get(self, timeout: float | None = None) -> Item | None:
        """Take the item, waiting for it; None after ``timeout`` seconds without one (None: wait for ever).

        What was put before closing can still be taken; then raises MailboxClosed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._slot:
                if self._closed:
                    raise MailboxClosed
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            item = self._slot.pop()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Accept nothing more and wake everybody who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_until_free(self) -> None:
        while self._slot and not self._closed:
            self._changed.wait()
        if self._closed:
            raise MailboxClosed
