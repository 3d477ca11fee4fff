"""Live sources against captures that end, fail and hang as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest

from gensoup.runtime.errors import DataError
from gensoup.runtime.sources import live
from gensoup.runtime.sources.live import LiveSource, SourceEvent

PATIENCE_S = 20.0


class Script:
    """A capture that gives ``count`` frames, 1 ms apart, then ends, raises or hangs until ``freed``."""

    rate_hz: float | None = 50.0

    def __init__(self, count: int, then: str = "end", frames: int | None = None) -> None:
        self.count, self.then, self.frames = count, then, frames
        self.freed = threading.Event()
        self.hangs = threading.Event()
        self.released = threading.Event()

    def read(self) -> tuple[float, np.ndarray] | None:
        if self.count > 0:
            self.count -= 1
            time.sleep(0.001)
            return time.monotonic(), np.full((4, 4, 3), self.count % 256, np.uint8)
        if self.then == "hang":
            self.hangs.set()
            self.freed.wait(PATIENCE_S)
        if self.then == "raise":
            raise OSError("cable out")
        return None

    def release(self) -> None:
        self.released.set()


class Away:
    """Connects to the scripts in turn; None is a connection that is refused."""

    def __init__(self, *scripts: Script | None) -> None:
        self.scripts = list(scripts)
        self.times: list[float] = []

    def __call__(self) -> Script:
        self.times.append(time.monotonic())
        script = self.scripts.pop(0)
        if script is None:
            raise DataError("refused")
        return script


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + PATIENCE_S
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def opened(connect: Callable[[], Script], **options: object) -> tuple[LiveSource, list[SourceEvent]]:
    events: list[SourceEvent] = []
    return LiveSource("cam", connect, on_event=events.append, **options), events  # type: ignore[arg-type]


def test_frames_come_with_the_time_they_arrived() -> None:
    source, events = opened(Away(Script(9999)))
    began = time.monotonic()
    arrivals = list(islice(source.arrivals(), 5))
    times = [at for at, _ in arrivals]
    assert times == sorted(times) and began < times[0] < times[-1] <= time.monotonic()
    assert source.rate_hz == 50
    assert events == []


def test_the_newest_frame_wins_over_those_nobody_took() -> None:
    script = Script(200, "hang")
    source, _ = opened(Away(script))
    arrivals = source.arrivals()
    next(arrivals)
    assert script.hangs.wait(PATIENCE_S)
    assert next(arrivals)[1].max() == 0  # the last of the 200, not the second
    script.freed.set()
    arrivals.close()
    assert source.overwritten > 100


def test_an_announced_length_that_is_reached_is_the_end() -> None:
    source, events = opened(Away(Script(10, frames=10)))
    assert len(list(source)) + source.overwritten == 10
    assert [event.kind for event in events] == ["ended"]
    assert (source.losses, source.failure) == (0, "")


def test_one_that_breaks_off_before_is_lost_and_connected_again() -> None:
    source, events = opened(Away(Script(10, frames=50), None, Script(50, frames=50)))
    assert len(list(source)) + source.overwritten == 60
    assert [event.kind for event in events] == ["lost", "back", "ended"]
    assert "cam: lost: no more frames after 10; connecting again" in events[0].text
    assert (source.losses, source.reconnects) == (1, 1)
    assert source.away_s >= 0.3  # .1 s, refused, .2 s


class Unwaiting(threading.Event):
    """Notes how long it was to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


def test_delays_double_until_the_longest_and_begin_anew_after_a_good_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "_STEADY_S", 0.03)
    scripts = [Script(1, "raise"), *[None] * 7, Script(60), Script(1, frames=1)]
    source, events = opened(Away(*scripts))
    source._closed = closed = Unwaiting()
    list(source)
    assert closed.waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1])
    assert [event.kind for event in events] == ["lost", "back", "lost", "back", "ended"]
    assert "cable out" in events[0].text
    assert source.losses == source.reconnects == 2


def test_without_reconnecting_a_loss_ends_it_and_says_why() -> None:
    source, events = opened(Away(Script(3, "raise")), reconnect=False)
    list(source)
    assert source.failure == "cable out"
    assert [(event.kind, event.text) for event in events] == [("lost", "cam: lost: cable out")]


@pytest.mark.parametrize("script", [None, Script(0), Script(0, "raise")])
def test_a_first_connection_without_a_frame_is_an_error(script: Script | None) -> None:
    source, events = opened(Away(script))
    with pytest.raises(DataError, match=r"^cam: (refused|it is open but gives no frame|cable out)$"):
        list(source)
    assert events == []


def test_a_first_frame_that_does_not_come_is_an_error() -> None:
    script = Script(0, "hang")
    source, _ = opened(Away(script), open_s=0.05)
    with pytest.raises(DataError, match=r"cam: no frame for 0\.05 s"):
        list(source)
    script.freed.set()


def test_a_read_that_hangs_is_noticed_and_left_behind() -> None:
    hung = Script(2, "hang")
    source, events = opened(Away(hung, Script(3, frames=3)), stall_s=0.5)
    list(source)
    assert [event.kind for event in events] == ["lost", "back", "ended"]
    assert "no frame for 0.5 s" in events[0].text
    assert not hung.released.is_set()
    hung.freed.set()
    assert hung.released.wait(PATIENCE_S)  # once its read comes back


def test_at_most_four_hung_reads_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FIRST_DELAY_S", 0.01), ("LAST_DELAY_S", 0.01), ("_JOIN_S", 0.01)):
        monkeypatch.setattr(live, name, seconds)
    scripts = [Script(1, "hang"), *(Script(0, "hang") for _ in range(9)), Script(1, frames=1)]
    connect = Away(*scripts)
    source, events = opened(connect, stall_s=0.02)

    def read() -> None:
        for _ in source:
            source._open_s = 0.02  # the first frame may take its time, those of the hung ones never come

    reading = threading.Thread(target=read)
    reading.start()
    assert scripts[3].hangs.wait(PATIENCE_S)
    time.sleep(0.3)
    assert len(connect.times) == 4
    source._open_s = PATIENCE_S
    for script in scripts:
        script.freed.set()
    reading.join(PATIENCE_S)
    assert events[-1].kind == "ended"


def test_one_that_is_closed_while_four_reads_hang_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FIRST_DELAY_S", 0.01), ("_JOIN_S", 0.01), ("_MOST_HUNG", 1)):
        monkeypatch.setattr(live, name, seconds)
    script = Script(1, "hang")
    connect = Away(script, Script(1))
    source, events = opened(connect, stall_s=0.02)
    reading = threading.Thread(target=lambda: list(source))
    reading.start()
    assert script.hangs.wait(PATIENCE_S)
    while not events:
        time.sleep(0.01)
    time.sleep(0.1)
    source.close()
    reading.join(PATIENCE_S)
    assert not reading.is_alive() and len(connect.times) == 1
    script.freed.set()


@pytest.mark.parametrize("when", ["reading", "waiting to connect"])
def test_close_ends_it_at_once_even_when_a_read_hangs(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_DELAY_S", PATIENCE_S * 10)
    script = Script(1, "hang" if when == "reading" else "raise")
    source, _ = opened(Away(script), stall_s=PATIENCE_S * 10)
    reading = threading.Thread(target=lambda: list(source))
    reading.start()
    if when == "reading":
        assert script.hangs.wait(PATIENCE_S)
    else:
        assert script.released.wait(PATIENCE_S)
    source.close()
    reading.join(PATIENCE_S)
    assert not reading.is_alive()
    script.freed.set()
    assert list(source) == []
    assert script.released.wait(PATIENCE_S)


def test_a_consumer_that_stops_lets_the_device_go() -> None:
    script = Script(9999)
    source, _ = opened(Away(script))
    for _ in source:
        break
    assert script.released.wait(PATIENCE_S)


def test_it_can_be_read_again() -> None:
    source, _ = opened(Away(Script(5, frames=5), Script(5, frames=5)))
    assert len(list(source)) >= 1
    assert len(list(source)) >= 1
