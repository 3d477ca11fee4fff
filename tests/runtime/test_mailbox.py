from __future__ import annotations

import threading

import pytest

from gensoup.runtime.mailbox import Mailbox, MailboxClosed


def test_newest_wins_and_drops_are_counted() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.put(1) is None
    assert box.put(2) == 1
    assert box.put(3) == 2
    assert box.drops == 2
    assert box.get() == 3


def test_get_returns_none_at_its_timeout() -> None:
    assert Mailbox().get(timeout=0.01) is None


def test_get_waits_for_what_another_thread_puts() -> None:
    box: Mailbox[str] = Mailbox()
    timer = threading.Timer(0.05, box.put, ["late"])
    timer.start()
    assert box.get(timeout=30) == "late"
    timer.join()


def test_blocking_put_keeps_every_item_in_order() -> None:
    box: Mailbox[int] = Mailbox(blocking=True)
    got: list[int | None] = []

    def consume() -> None:
        with pytest.raises(MailboxClosed):
            while True:
                got.append(box.get())

    consumer = threading.Thread(target=consume)
    consumer.start()
    for number in range(200):
        assert box.put(number) is None
    box.close()
    consumer.join(30)
    assert got == list(range(200))
    assert box.drops == 0


def test_blocking_put_waits_while_the_slot_is_taken() -> None:
    box: Mailbox[int] = Mailbox(blocking=True)
    box.put(1)
    second = threading.Thread(target=box.put, args=(2,))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    assert box.get() == 1
    second.join(30)
    assert box.get(timeout=30) == 2


def test_what_was_put_before_closing_can_still_be_taken() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(7)
    box.close()
    assert box.get() == 7
    with pytest.raises(MailboxClosed):
        box.get()
    with pytest.raises(MailboxClosed):
        box.put(8)


@pytest.mark.parametrize("blocking", [False, True])
def test_closing_wakes_whoever_waits(blocking: bool) -> None:
    box: Mailbox[int] = Mailbox(blocking)
    ended = []

    def wait() -> None:
        with pytest.raises(MailboxClosed):
            if blocking:
                box.put(2)
            else:
                box.get()
        ended.append(True)

    if blocking:
        box.put(1)
    waiter = threading.Thread(target=wait)
    waiter.start()
    box.close()
    waiter.join(30)
    assert ended == [True]
