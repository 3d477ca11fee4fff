from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from gensoup.runtime.errors import Interrupted
from gensoup.runtime.interrupts import heeded_interrupts


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """A background job ignores interrupts, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Swallowing:
    """Loses an interrupt as callbacks of the interpreter do."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Broken:
    """Fails where nobody can catch it."""

    def __del__(self) -> None:
        raise ValueError


def test_an_interrupt_that_was_swallowed_is_raised_when_the_start_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with heeded_interrupts() as over:
        Swallowing()
        Broken()
        with pytest.raises(KeyboardInterrupt):
            over()
        over()  # once
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    Broken()
    assert told == [ValueError, ValueError]  # no traceback of an interrupt, but of all else


def test_what_a_module_makes_of_an_interrupt_is_an_interrupt() -> None:
    def imported() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            raise ImportError("compiled for another version") from error

    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        imported()
    with pytest.raises(ImportError), heeded_interrupts():
        raise ImportError("compiled for another version")
    with pytest.raises(Interrupted, match="measure again"), heeded_interrupts():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise Interrupted("measure again") from None


def test_others_are_raised_at_once_and_not_again() -> None:
    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with heeded_interrupts() as over:
        over()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        over()  # what came after the start was heeded by whoever caught it


def test_a_request_to_stop_ends_a_program_in_order() -> None:
    with heeded_interrupts() as over:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            over()  # as far as it knows, that one was lost
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        over()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_someone_elses_and_other_threads_are_let_be() -> None:
    def theirs(*_: object) -> None: ...

    before = signal.signal(signal.SIGINT, theirs)
    try:
        with heeded_interrupts() as over:
            assert signal.getsignal(signal.SIGINT) is theirs
            over()
    finally:
        signal.signal(signal.SIGINT, before)
    ended: list[bool] = []

    def run() -> None:
        with heeded_interrupts() as over:
            over()
        ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended
