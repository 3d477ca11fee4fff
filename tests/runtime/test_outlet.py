from __future__ import annotations

import threading

from gensoup.runtime.events import Event
from gensoup.runtime.home_process import HomeProcess
from gensoup.runtime.outlet import Outlet, ResultIterator
from gensoup.runtime.result import Result, State

EVENT = Event("recovered", 0.0, "engine", "")


def result(number: int) -> Result:
    return Result(number, 0.0, 0.0, 0.0, 0.0, 0, State.FAILED, None, "engine")


def taken(outlet: Outlet) -> list[object]:
    outlet.end()
    items = iter(outlet.get, None)
    return [item.frame_id if isinstance(item, Result) else item for item in items]


def test_the_oldest_results_go_first_and_are_told_but_events_stay() -> None:
    lost: list[Result] = []
    outlet = Outlet(2, waits=False, discarded=lost.append)
    outlet.put(result(0))
    outlet.tell(EVENT)
    for number in range(1, 5):
        outlet.put(result(number))
    assert taken(outlet) == [EVENT, 3, 4]
    assert [one.frame_id for one in lost] == [0, 1, 2]


def test_with_waits_nothing_is_lost() -> None:
    outlet = Outlet(1, waits=True, discarded=lambda result: None)
    putting = threading.Thread(target=lambda: [outlet.put(result(number)) for number in range(20)])
    putting.start()
    got = [outlet.get() for _ in range(20)]
    putting.join(30)
    assert [item.frame_id for item in got if isinstance(item, Result)] == list(range(20))


def test_hurry_and_leave_wake_whoever_waits_for_room() -> None:
    for ask, left in ((Outlet.hurry, [0, 1]), (Outlet.leave, [])):
        outlet = Outlet(1, waits=True, discarded=lambda result: None)
        outlet.put(result(0))
        putting = threading.Thread(target=outlet.put, args=(result(1),))
        putting.start()
        putting.join(0.05)
        assert putting.is_alive()
        ask(outlet)
        putting.join(30)
        assert not putting.is_alive()
        assert taken(outlet) == left


def test_a_loop_that_ends_early_leaves() -> None:
    outlet = Outlet(1, waits=True, discarded=lambda result: None)
    outlet.put(result(0))
    for one in ResultIterator(outlet, lambda result: result, HomeProcess("", "")):
        assert one.frame_id == 0
        break
    outlet.put(result(1))
    outlet.put(result(2))  # would wait for ever for a consumer that is gone
    assert taken(outlet) == []
