from __future__ import annotations

import numpy as np
import pytest

from gensoup.runtime.playback import Playback, played_rate


@pytest.mark.parametrize(
    ("rate", "played"), [(25, 25), (30, 30), (50, 25), (59.94, 29.97), (60, 30), (64, 32), (120, 30), (1000, 31.25)]
)
def test_the_rate_is_a_whole_part_of_the_sources(rate: float, played: float) -> None:
    assert played_rate(rate) == pytest.approx(played)


def written(times: list[float], rate: float) -> list[int | None]:
    """For each picture of the video, the number of the result that it shows."""
    playback, video = Playback(rate), []
    for number, at in enumerate(times):
        holds = playback.holds(1000.0 + at)
        if holds is not None:
            video += [video[-1] if video else None] * holds + [number]
    return video


def test_what_comes_at_the_videos_rate_is_all_in_it_once() -> None:
    jitter = np.random.default_rng(0).uniform(-0.45, 0.45, 300)
    assert written([number / 30 for number in range(300)], 30) == list(range(300))
    jittery = written([(number + shift) / 30 for number, shift in enumerate(jitter)], 30)
    assert set(jittery) == set(range(300)) and len(jittery) <= 302


def test_of_twice_as_many_every_second_one_is() -> None:
    video = written([number / 60 for number in range(300)], 30)
    assert abs(len(video) - 150) <= 1 and len(set(video)) == len(video)


def test_what_is_missing_is_filled_with_the_picture_before() -> None:
    assert written([0.0, 0.1, 0.4], 10) == [0, 1, 1, 1, 2]
    slow = written([number / 7 for number in range(70)], 30)
    assert abs(len(slow) - 10 * 30) <= 6 and set(slow) == set(range(70))


def test_long_gaps_and_times_that_run_back_are_cuts() -> None:
    assert written([0.0, 60.0, 60.1], 10) == [0, 0, 0, 0, 1, 2]  # a quarter of a second of it
    assert written([0.0, 0.1, -60.0, -59.9], 10) == [0, 1, 2, 3]
