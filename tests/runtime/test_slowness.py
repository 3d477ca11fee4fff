from __future__ import annotations

import pytest

from gensoup.runtime.slowness import Slowness


def first_reason(taken_ms: list[float], rate_hz: float = 64.0, other_ms: float = 5.0) -> tuple[float, str] | None:
    """When, in seconds, a series of calls counts as slow."""
    slowness, now = Slowness(15.0, other_ms), 0.0
    for number, taken in enumerate(taken_ms):
        now = max(now, number / rate_hz)
        started, now = now, now + taken / 1e3
        if (reason := slowness.add(started, now)) is not None:
            return now, reason
    return None


@pytest.mark.parametrize("taken", [16.0, 30.0, 100.0, 240.0])
@pytest.mark.parametrize("rate_hz", [25.0, 64.0, 120.0])
def test_slow_calls_are_out_within_a_second(taken: float, rate_hz: float) -> None:
    found = first_reason([3.0] * 100 + [taken] * 100, rate_hz)
    assert found is not None
    at, reason = found
    assert 0 < at - 100 / rate_hz < 1.0
    assert reason.startswith("slow: ") and reason.endswith(" ms a frame, the limit is 15 ms")


def test_what_is_late_now_and_then_is_not_slow() -> None:
    assert first_reason([40.0, 3.0, 3.0] * 200) is None
    assert first_reason([14.9] * 500) is None
    assert first_reason([100.0, 100.0]) is None


def test_an_engine_that_stands_by_must_be_faster() -> None:
    assert first_reason([30.0] * 200, other_ms=15.5) is None
    assert first_reason([30.0] * 200, other_ms=14.0) is not None


def test_a_pause_begins_anew() -> None:
    slowness = Slowness(15.0, 5.0)
    assert slowness.add(0.0, 0.003) is None
    fine = [slowness.add(60 + at / 32, 60 + at / 32 + 0.03) is None for at in range(30)]
    assert fine.index(False) > 14  # half a second of them, not the first three


def test_what_any_engine_would_have_cost_counts_for_both() -> None:
    def out(taken: float, beside: float, other: float) -> bool:
        slowness = Slowness(15.0, other)
        return any(slowness.add(at / 30, at / 30 + taken / 1e3, beside) for at in range(60))

    assert not out(taken=17.0, beside=12.0, other=4.0)  # 16 ms with the other: hardly faster, and over the limit too
    assert out(taken=17.0, beside=12.0, other=2.0)
    assert out(taken=40.0, beside=12.0, other=4.0)  # over the limit too, but twice as fast
    assert not out(taken=17.0, beside=0.0, other=20.0)


def test_what_was_forgotten_does_not_count() -> None:
    slowness = Slowness(15.0, 5.0)
    for number in range(10):
        slowness.add(number * 0.04, number * 0.04 + 0.03)
    slowness.forget()
    assert slowness.add(0.6, 0.63) is None
