"""When a probe has seen enough."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gensoup.bench.probe_plan import ProbePlan


def test_looks_are_of_frames_and_of_seconds() -> None:
    assert ProbePlan(64.0).looks() == (128, 512, 1024, 2048)
    assert ProbePlan(30.0).looks() == (128, 512, 1024, 2048)
    assert ProbePlan(120.0).looks() == (240, 960, 1920, 3840)
    assert ProbePlan(64.0, seconds=10.0).looks() == (128, 512, 640)
    assert ProbePlan(64.0, seconds=0.1).looks() == (32,)


def test_the_latency_allowed_is_a_share_of_a_frames_time() -> None:
    assert ProbePlan(50.0).bound_ms == pytest.approx(17.0)
    assert ProbePlan(50.0, allowed_ms=5.0).bound_ms == 5.0


def test_a_fast_graph_is_settled_once_its_tail_is_known_and_a_hopeless_one_at_once() -> None:
    plan, rng = ProbePlan(64.0), np.random.default_rng(0)
    fast = rng.uniform(2, 8, 2048)
    assert not plan.settled(fast[:128]) and plan.settled(fast[:512])
    assert plan.settled(rng.uniform(14, 20, 128))
    assert plan.settled(np.full(128, math.inf))


def test_a_tail_about_the_limit_is_not_settled() -> None:
    plan = ProbePlan(64.0)
    values = np.random.default_rng(1).uniform(2, 10, 2048)
    values[::100] = 20.0  # one in a hundred too late
    assert [plan.settled(values[:look]) for look in plan.looks()] == [False] * 4


def test_looking_again_and_again_decides_wrongly_no_oftener_than_promised() -> None:
    """At the limit itself every decision is wrong or luck: 1% of frames are over it."""
    plan, rng = ProbePlan(64.0), np.random.default_rng(2)
    decided = 0
    for _ in range(400):
        values = rng.uniform(0, plan.bound_ms / 0.99, plan.looks()[-1])
        decided += any(plan.settled(values[:look]) for look in plan.looks())
    assert decided / 400 <= 0.05 + 0.02
