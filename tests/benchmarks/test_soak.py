from __future__ import annotations

import pytest
import soak


def test_every_fault_is_answered_and_nothing_is_left() -> None:
    told: list[str] = []
    assert soak.run(2500, 100_000, 1, told.append) == []
    assert all(f"'{name}': 1" in told[-1] for name in soak.FAULTS)


def test_a_fault_that_is_not_answered_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "FAULTS", ("engine raises",))
    monkeypatch.setattr(soak.Guarded, "_fail_over", lambda self, reason, slow=False: None)
    wrong = soak.run(100, 100_000, 1, lambda line: None)
    assert any("raises: no other engine within a second" in line for line in wrong)
