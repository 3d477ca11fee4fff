from __future__ import annotations

import numpy as np
import pytest

from gensoup.bench.pacer import Thinning, _awake_next


@pytest.mark.parametrize(
    ("camera_hz", "taken_hz"), [(30.0, 30.0), (59.94, 59.94), (64.0, 64.0), (64.5, 64.0), (120.0, 64.0), (240.0, 64.0)]
)
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_a_camera_is_thinned_out_to_the_limit_and_no_further(camera_hz: float, taken_hz: float, jitter: float) -> None:
    number = np.arange(round(60 * camera_hz))
    arrivals = np.sort((number + np.random.default_rng(0).uniform(-jitter, jitter, len(number))) / camera_hz)
    thinning = Thinning(64.0)
    taken = [at for at in arrivals.tolist() if thinning.takes(at)]
    assert len(taken) == pytest.approx(60 * taken_hz, abs=2)


def test_after_a_gap_frames_are_not_made_up_for() -> None:
    thinning = Thinning(64.0)
    arrivals = [*(np.arange(640) / 640), *(5 + np.arange(640) / 640)]
    assert sum(thinning.takes(at) for at in arrivals) == pytest.approx(128, abs=4)


def test_a_late_wake_up_is_met_earlier_at_once_and_forgotten_slowly() -> None:
    awake = _awake_next(1e-4, late=3e-4)
    assert awake == pytest.approx(6e-4)
    assert _awake_next(awake, late=9.0) == 1e-3
    for _ in range(10):
        awake = _awake_next(awake, late=2e-5)
    assert 4e-4 < awake < 6e-4
    for _ in range(1000):
        awake = _awake_next(awake, late=2e-5)
    assert awake == pytest.approx(1e-4, rel=0.01)
