"""The schedule of paced frames, on a clock of its own: exact at every rate, whatever sleeping does."""

from fractions import Fraction

import numpy as np
import pytest

from gensoup.runtime.sources.pacing import Pacer, exact_rate

RATES = {25.0: Fraction(25), 30.0: Fraction(30), 50.0: Fraction(50), 59.94: Fraction(60000, 1001), 60.0: Fraction(60)}
RATES |= {120.0: Fraction(120), 64.0: Fraction(64), 29.97: Fraction(30000, 1001), 23.976: Fraction(24000, 1001)}


class Clock:
    """Time that passes only in sleep, which takes up to 3 ms longer than asked."""

    def __init__(self, start: float) -> None:
        self.now = start
        self.rng = np.random.default_rng(0)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds + float(self.rng.uniform(0, 0.003))


@pytest.mark.parametrize("rate_hz", RATES)
def test_no_rate_drifts(rate_hz: float) -> None:
    clock = Clock(86_400.0 * 30)
    pacer = Pacer(rate_hz, clock, clock.sleep)
    frames = 4_000
    arrivals = np.array([pacer.wait() for _ in range(frames)])
    exact = np.array([float(number / RATES[rate_hz]) for number in range(frames)])
    assert np.abs(arrivals - arrivals[0] - exact).max() < 1e-6
    assert pacer.slips == 0
    assert clock.now == pytest.approx(arrivals[-1], abs=0.0031)


@pytest.mark.parametrize("rate_hz", [*RATES, 59.94005994, 1000.0, 0.5, 31.4159])
def test_rates_are_exact_fractions(rate_hz: float) -> None:
    assert exact_rate(rate_hz) == RATES.get(rate_hz, exact_rate(rate_hz))
    assert float(exact_rate(rate_hz)) == pytest.approx(rate_hz, rel=2e-6)


def test_what_a_container_says_is_ntsc_too() -> None:
    assert exact_rate(59.94005994005994) == exact_rate(59.94) == Fraction(60000, 1001)


def test_a_frame_that_is_a_little_late_keeps_the_schedule() -> None:
    clock = Clock(10.0)
    pacer = Pacer(50, clock, clock.sleep)
    assert pacer.wait() == 10.0
    clock.now += 0.03  # 10 ms after it was due
    assert pacer.wait() == pytest.approx(10.03)
    assert pacer.wait() == pytest.approx(10.04)
    assert pacer.slips == 0


def test_a_long_delay_starts_the_schedule_again_without_a_burst() -> None:
    clock = Clock(10.0)
    pacer = Pacer(50, clock, clock.sleep)
    pacer.wait()
    clock.now += 1.0
    late = [pacer.wait() for _ in range(3)]
    assert late == pytest.approx([11.0, 11.02, 11.04])
    assert pacer.slips == 1
