from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gensoup.bench import pacer
from gensoup.bench.pacer import ScheduledPacer, Thinning, _awake_next


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


def test_a_wait_while_the_counters_are_read_is_counted_for_the_frame_that_it_delays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it is the next frame that is late, for no reason that the kernel knows of: a pause."""

    class HeldUp:
        calls, waited = 0, 0.0

        def seconds(self) -> float:
            self.calls += 1
            if self.calls == 4:
                time.sleep(0.2)
                self.waited += 0.2
            return self.waited

        def close(self) -> None:
            pass

    monkeypatch.setattr(pacer, "CoreWait", HeldUp)
    stream: Any = SimpleNamespace(push=lambda *_, **__: None)
    paced = ScheduledPacer(stream, [np.zeros((2, 2, 3), np.uint8)], 64.0, 12)
    paced.start()
    paced.join()
    ready = np.maximum(paced.scheduled, np.append(-np.inf, paced.pushed[:-1]))
    stood, waited = np.array(paced.pushed) - ready, np.diff(paced.waited_s, prepend=0.0)
    assert stood[3] > 0.15 and waited[3] == pytest.approx(0.2)
    assert waited[4:].sum() == 0 and stood[4:].max() < 0.15
