"""What has no effect is said."""

from __future__ import annotations

from gensoup.train.constraint import Admission, Candidate
from gensoup.train.presets import compose
from gensoup.train.remarks import by_reason, remarks, remarks_on_alphabet

NAMES = ("mobilenet_v3_small", "mnasnet1_0", "squeezenet1_1")
ADMISSION = Admission(tuple(Candidate(name, 64, 10**6, 10**6, None, None) for name in NAMES), ())


def test_presets_as_they_are_have_no_remarks() -> None:
    for preset in ("gen-soup", "gen-cnn", "gen-cnn-thesis", "gen-soup-thesis-1", "gen-soup-thesis-2"):
        settings = compose("data", preset, None, {})
        assert remarks(settings) == [] and remarks_on_alphabet(settings, ADMISSION) == []
    schedule = compose("data", "astrocytes-thesis", None, {})
    assert remarks(schedule) == []
    assert remarks_on_alphabet(schedule, Admission(ADMISSION.candidates[:1], ())) == []


def test_image_sizes_that_never_grow() -> None:
    (line,) = remarks(compose("data", "gen-soup-thesis-1", None, {"generations": 5}))
    assert "image sizes never grow" in line and "steady_generations, 10" in line
    assert remarks(compose("data", "gen-soup-thesis-1", None, {"generations": 11})) == []
    assert remarks(compose("data", "gen-soup-thesis-1", None, {"generations": 1})) == []  # one cannot grow


def test_a_population_smaller_than_the_race() -> None:
    (line,) = remarks_on_alphabet(compose("data", None, None, {"population": 2}), ADMISSION)
    assert line.startswith("--population 2: is less than the 3 architectures")
    assert remarks_on_alphabet(compose("data", None, None, {"population": 3}), ADMISSION) == []
    drawn = compose("data", None, None, {"population": 2, "start": "drawn"})
    assert remarks_on_alphabet(drawn, ADMISSION) == []


def test_a_schedule_of_several_networks() -> None:
    (line,) = remarks_on_alphabet(compose("data", "astrocytes-thesis", None, {"architectures": NAMES}), ADMISSION)
    assert line == (
        "an astrocyte schedule trains one network, here mobilenet_v3_small; not used: mnasnet1_0, squeezenet1_1"
    )


def test_what_is_true_of_many_is_told_once() -> None:
    rows = [("a", "no weights"), ("b", "too slow"), ("c", "no weights")]
    excluded = [{"architecture": name, "reason": reason} for name, reason in rows]
    assert by_reason(excluded) == [("a, c", "no weights"), ("b", "too slow")]
